use super::*;

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn word(value: &str) -> Result<Written, ()> {
    Ok(Written::With(value.into()))
}

fn written(name: &str, value: &Value) -> Result<Written, ()> {
    write(name, value).map_err(|error| {
        assert_eq!(error.field, format!("parameters.{name}"));
        assert!(!error.wrong.is_empty() && !error.allowed.is_empty(), "{error}");
    })
}

/// The bounds by hand, so that a slip in the table is seen here.
#[test]
fn every_number_has_its_range() {
    let (mib, tib) = (1_048_576, 1_099_511_627_776);
    let numbers = [
        ("auto-slots", 0, 1),
        ("cache-limit", 1, 10_000),
        ("cache-max-bytes", mib, tib),
        ("check-live-pos-interval", 1, 3_600),
        ("core-dlr-periodic-check-interval", 1, 3_600),
        ("core-skip-have-before-playback-pos", 0, 1),
        ("disk-cache-limit", mib, tib),
        ("download-limit", 0, 10_000_000),
        ("live-adjust-buffer-time", 0, 1),
        ("live-buffer", 1, 600),
        ("live-buffer-time", 1, 600),
        ("live-cache-auto-size", 0, 1),
        ("live-cache-auto-size-reserve", mib, tib),
        ("live-cache-max-memory-percent", 1, 100),
        ("live-cache-size", mib, tib),
        ("live-disable-multiple-read-threads", 0, 1),
        ("live-disk-cache-size", mib, tib),
        ("live-max-buffer-time", 1, 600),
        ("live-mem-cache-size", mib, tib),
        ("live-stop-main-read-thread", 0, 1),
        ("log-backup-count", 0, 1_000),
        ("log-debug", 0, 65_535),
        ("log-max-size", 1_024, tib),
        ("make-default-access-token", 0, 1),
        ("max-connections", 1, 10_000),
        ("max-download-rate", 0, 10_000_000),
        ("max-download-speed", 0, 10_000_000),
        ("max-file-size", mib, tib),
        ("max-peers", 1, 10_000),
        ("max-upload-rate", 0, 10_000_000),
        ("max-upload-slots", 0, 1_000),
        ("max-upload-speed", 0, 10_000_000),
        ("memory-cache-limit", mib, tib),
        ("min-peers", 0, 10_000),
        ("refill-buffer-interval", 1, 3_600),
        ("slots-manager-use-cpu-limit", 0, 1),
        ("stats-report-interval", 1, 3_600),
        ("total-max-download-rate", 0, 10_000_000),
        ("total-max-upload-rate", 0, 10_000_000),
        ("upload-limit", 0, 10_000_000),
        ("use-internal-buffering", 0, 1),
        ("vod-buffer", 1, 600),
        ("vod-cache-size", mib, tib),
        ("vod-drop-max-age", 0, 31_536_000),
        ("webrtc-allow-incoming-connections", 0, 1),
        ("webrtc-allow-outgoing-connections", 0, 1),
    ];
    for (name, least, most) in numbers {
        for good in [least, most] {
            assert_eq!(written(name, &Value::Number(good)), word(&good.to_string()), "{name} {good}");
        }
        for bad in [least - 1, most + 1, i64::MIN, i64::MAX] {
            assert_eq!(written(name, &Value::Number(bad)), Err(()), "{name} {bad}");
        }
        for bad in [Value::Flag(true), text("yes"), text("")] {
            assert_eq!(written(name, &bad), Err(()), "{name} {bad:?}");
        }
    }
    let counted = OPTIONS.iter().filter(|(_, kind)| matches!(kind, Int(..) | Bytes(..)));
    assert_eq!(counted.count(), numbers.len());
}

#[test]
fn every_other_option_takes_its_kind_alone() {
    let flags = [
        "allow-user-config",
        "disable-sentry",
        "disable-upnp",
        "log-stdout",
        "service-remote-access",
        "stats-report-peers",
    ];
    for name in flags {
        assert_eq!(written(name, &Value::Flag(true)), Ok(Written::Alone), "{name}");
        assert_eq!(written(name, &Value::Flag(false)), Ok(Written::Absent), "{name}");
        for bad in [Value::Number(1), text("true")] {
            assert_eq!(written(name, &bad), Err(()), "{name} {bad:?}");
        }
    }
    let texts = ["access-token", "log-modules", "login", "password", "service-access-token"];
    let long = "x".repeat(4_097);
    for name in texts {
        for good in ["x", "two words", "ü{http_port}", &long[1..]] {
            assert_eq!(written(name, &text(good)), word(good), "{name} {good}");
        }
        for bad in ["", "-x", "@/etc/options", "a\0b", "a\nb", "a\u{7f}b", &long] {
            assert_eq!(written(name, &text(bad)), Err(()), "{name} {bad:?}");
        }
        for bad in [Value::Number(1), Value::Flag(true)] {
            assert_eq!(written(name, &bad), Err(()), "{name} {bad:?}");
        }
    }
    let paths = ["cache-dir", "log-file", "state-dir"];
    for name in paths {
        for good in ["/a", "/dev/shm/.ACEStream", "/a/..b/"] {
            assert_eq!(written(name, &text(good)), word(good), "{name} {good}");
        }
        for bad in ["", "/", "//", "a", "~/.ACEStream", "/a/../b", "/..", "/a\0", &format!("/{long}")] {
            assert_eq!(written(name, &text(bad)), Err(()), "{name} {bad:?}");
        }
        assert_eq!(written(name, &Value::Number(1)), Err(()), "{name}");
    }
    let words: [(&str, &[&str], &[&str]); 2] = [
        ("live-cache-type", &["disk", "memory", "hybrid"], &["", "Memory", "ram"]),
        ("vod-cache-type", &["disk", "memory"], &["", "hybrid"]),
    ];
    for (name, good, bad) in words {
        good.iter().for_each(|good| assert_eq!(written(name, &text(good)), word(good), "{name} {good}"));
        bad.iter().for_each(|bad| assert_eq!(written(name, &text(bad)), Err(()), "{name} {bad}"));
        assert_eq!(written(name, &Value::Flag(true)), Err(()), "{name}");
    }
    assert_eq!(flags.len() + texts.len() + paths.len() + words.len() + 46, OPTIONS.len());
}

#[test]
fn bytes_may_have_a_unit() {
    for (given, bytes) in [
        ("268435456", Some(268_435_456)),
        ("268435456B", Some(268_435_456)),
        ("100MiB", Some(104_857_600)),
        ("100 MiB", Some(104_857_600)),
        ("1024KiB", Some(1_048_576)),
        ("1GiB", Some(1_073_741_824)),
        ("1TiB", Some(1_099_511_627_776)),
        ("1023KiB", None),
        ("2TiB", None),
        ("100MB", None),
        ("100mib", None),
        ("1.5GiB", None),
        ("-1MiB", None),
        ("MiB", None),
        ("9223372036854775807TiB", None),
        ("99999999999999999999", None),
    ] {
        let expected = bytes.map_or(Err(()), |bytes: i64| word(&bytes.to_string()));
        assert_eq!(written("live-cache-size", &text(given)), expected, "{given}");
    }
}

#[test]
fn options_are_sorted_and_those_we_set_are_refused() {
    assert!(OPTIONS.is_sorted_by(|(a, _), (b, _)| a < b));
    for name in SET_BY_US {
        let error = write(name, &Value::Number(1)).unwrap_err();
        assert_eq!(error.wrong, "Millrace sets this option itself", "{name}");
    }
    for name in ["", "live-bufer", "--live-buffer", "Live-Buffer"] {
        let error = write(name, &Value::Number(1)).unwrap_err();
        assert_eq!(error.wrong, "there is no such option", "{name}");
    }
    for name in SECRET {
        let error = write(name, &text("-hunter")).unwrap_err();
        assert!(!error.to_string().contains("hunter"), "{error}");
        assert_eq!(written(name, &text("***")), Err(()));
    }
}
