use proptest::prelude::*;

use super::*;

const PATH: &str = "/ace/m/x/k.m3u8";

fn media(body: &[u8]) -> MediaList {
    match parse(body, PATH) {
        Ok(Playlist::Media(list)) => list,
        other => panic!("{}: {other:?}", String::from_utf8_lossy(body)),
    }
}

/// Number, URI, microseconds, whether discontinuous.
fn short(list: &MediaList) -> Vec<(u64, &str, u128, bool)> {
    list.segments.iter().map(|s| (s.sequence, &*s.uri, s.duration.as_micros(), s.is_discontinuous)).collect()
}

/// As engines write it, in the documentation of their API.
const SAMPLE: &str = "#EXTM3U\n\
    #EXT-X-VERSION:3\n\
    #EXT-X-TARGETDURATION:7\n\
    #EXT-X-MEDIA-SEQUENCE:0\n\
    #EXTINF:5.240000,\n\
    http://10.77.0.9:6878/ace/c/x/0.ts\n\
    #EXTINF:4.880000,\n\
    http://10.77.0.9:6878/ace/c/x/1.ts\n";

#[test]
fn a_list_of_an_engine_says_what_it_says() {
    let list = media(SAMPLE.as_bytes());
    assert_eq!((list.sequence, list.target, list.is_ended), (0, Duration::from_secs(7), false));
    assert_eq!((list.discontinuity_sequence, list.ignored), (None, 0));
    let expected = [(0, "/ace/c/x/0.ts", 5_240_000, false), (1, "/ace/c/x/1.ts", 4_880_000, false)];
    assert_eq!(short(&list), expected);
}

#[test]
fn hls_odd_list() {
    let plain = media(SAMPLE.as_bytes());
    let comments =
        SAMPLE.replace("#EXTINF", "# a comment\n\n#EXT-X-UNHEARD-OF:A=1,B=\"x,y\"\n#EXTINF").into_bytes();
    for (name, body) in [
        ("CRLF", SAMPLE.replace('\n', "\r\n").into_bytes()),
        ("a byte order mark", [BYTE_ORDER_MARK, SAMPLE.as_bytes()].concat()),
        ("no version tag", SAMPLE.replace("#EXT-X-VERSION:3\n", "").into_bytes()),
        ("relative URLs", SAMPLE.replace("http://10.77.0.9:6878", "../../..").into_bytes()),
        ("absolute paths", SAMPLE.replace("http://10.77.0.9:6878", "").into_bytes()),
        ("another host", SAMPLE.replace("10.77.0.9:6878", "evil.example").into_bytes()),
        ("comments", comments),
        ("no end of the last line", SAMPLE.trim_end().as_bytes().to_vec()),
        ("blank lines first", format!("\n\r\n  {SAMPLE}").into_bytes()),
        ("a header with attributes", SAMPLE.replace("#EXTM3U", "#EXTM3U x-y=\"z\"").into_bytes()),
        (
            "spaces",
            SAMPLE
                .replace('\n', " \t\n  ")
                .replace(':', ": ")
                .replace("http: //10.77.0.9: 6878", "")
                .into_bytes(),
        ),
        ("titles", SAMPLE.replace("0000,", "0000,A title, or two").into_bytes()),
        ("no commas", SAMPLE.replace("0000,", "0000").into_bytes()),
        ("no sequence", SAMPLE.replace("#EXT-X-MEDIA-SEQUENCE:0\n", "").into_bytes()),
        (
            "tags twice",
            SAMPLE
                .replace("#EXT-X-TARGETDURATION:7\n", "#EXT-X-TARGETDURATION:9\n#EXT-X-TARGETDURATION:7\n")
                .into_bytes(),
        ),
        (
            "tags in another order",
            format!("{}#EXT-X-MEDIA-SEQUENCE:0\n", SAMPLE.replace("#EXT-X-MEDIA-SEQUENCE:0\n", ""))
                .into_bytes(),
        ),
        ("a key that is none", SAMPLE.replace("#EXTINF", "#EXT-X-KEY:METHOD=NONE\n#EXTINF").into_bytes()),
        (
            "a key that ends",
            SAMPLE
                .replacen(
                    "#EXTINF",
                    "#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXT-X-KEY:METHOD=NONE\n#EXTINF",
                    1,
                )
                .into_bytes(),
        ),
        ("a key behind the last", format!("{SAMPLE}#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n").into_bytes()),
    ] {
        assert_eq!(media(&body), plain, "{name}");
    }
}

#[test]
fn values_that_are_odd_are_replaced_by_what_is_likely() {
    for (name, head, extinf, target, duration, ignored) in [
        ("an integer", "#EXT-X-TARGETDURATION:7\n", "5,", 7, 5_000_000, 0),
        ("a target too small", "#EXT-X-TARGETDURATION:1\n", "5.24,", 5, 5_240_000, 0),
        ("rounded up", "#EXT-X-TARGETDURATION:1\n", "5.5", 6, 5_500_000, 0),
        ("no target", "", "6.1,", 6, 6_100_000, 0),
        ("a target with decimals", "#EXT-X-TARGETDURATION:6.5\n", "6", 6, 6_000_000, 0),
        ("neither", "", "", 5, 5_000_000, 1),
        ("no end", "#EXT-X-TARGETDURATION:7\n", "-1,title", 7, 7_000_000, 1),
        ("words", "#EXT-X-TARGETDURATION:long\n", "longer", 5, 5_000_000, 2),
        ("not finite", "#EXT-X-TARGETDURATION:inf\n", "NaN,", 5, 5_000_000, 2),
        ("beyond belief", "#EXT-X-TARGETDURATION:1e18\n", "600.1,", 5, 5_000_000, 2),
        ("the longest", "", "600", 600, 600_000_000, 0),
        ("the shortest", "", "0", 1, 0, 0),
        ("the last of two", "#EXT-X-TARGETDURATION:7\n", "3\n#EXTINF:4", 7, 4_000_000, 0),
    ] {
        let list = media(format!("#EXTM3U\n{head}#EXTINF:{extinf}\na\n").as_bytes());
        assert_eq!(list.target.as_secs(), target, "{name}");
        assert_eq!(short(&list), [(0, "/ace/m/x/a", duration, false)], "{name}");
        assert_eq!(list.ignored, ignored, "{name}");
    }
    for (name, value, sequence, ignored) in [
        ("a number", "7", 7, 0),
        ("spaces", " 7 ", 7, 0),
        ("the highest", "9223372036854775807", MAX_SEQUENCE, 0),
        ("one more", "9223372036854775808", 0, 1),
        ("negative", "-1", 0, 1),
        ("empty", "", 0, 1),
        ("a bad one after a good one", "7\n#EXT-X-MEDIA-SEQUENCE:x", 7, 1),
    ] {
        let list = media(format!("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:{value}\n#EXTINF:5,\na\n").as_bytes());
        assert_eq!((list.segments[0].sequence, list.ignored), (sequence, ignored), "{name}");
    }
}

#[test]
fn what_stands_between_segments_belongs_to_the_next() {
    let long = "a".repeat(MAX_LINE + 1);
    for (name, body, expected, ignored) in [
        (
            "a discontinuity, told twice",
            "#EXTINF:5,\na\n#EXT-X-DISCONTINUITY\n#EXT-X-DISCONTINUITY\n#EXTINF:5,\nb\n#EXTINF:5,\nc\n",
            vec![(0, "a", false), (1, "b", true), (2, "c", false)],
            0,
        ),
        (
            "between duration and URI",
            "#EXTINF:5,\n#EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00Z\na\n",
            vec![(0, "a", true)],
            0,
        ),
        (
            "a URI of no use keeps its number",
            "#EXTINF:5,\na\n#EXTINF:5,\nb c\n#EXTINF:5,\nd\n",
            vec![(0, "a", false), (2, "d", true)],
            1,
        ),
        (
            "a gap",
            "#EXTINF:5,\na\n#EXT-X-GAP\n#EXTINF:5,\nb\n#EXTINF:5,\nc\n",
            vec![(0, "a", false), (2, "c", true)],
            0,
        ),
        (
            "a URI without a duration is none",
            "#EXTINF:5,\na\nb\n#EXTINF:5,\nc\n",
            vec![(0, "a", false), (1, "c", false)],
            1,
        ),
        ("a URI that is too long", &format!("#EXTINF:5,\n{long}\n#EXTINF:5,\nb\n"), vec![(1, "b", true)], 1),
        ("a comment that is too long", &format!("#EXTINF:5,\n#{long}\nb\n"), vec![(0, "b", false)], 1),
    ] {
        let list = media(format!("#EXTM3U\n{body}").as_bytes());
        let expected: Vec<_> =
            expected.into_iter().map(|(n, uri, is)| (n, format!("/ace/m/x/{uri}"), is)).collect();
        let got: Vec<_> =
            list.segments.iter().map(|s| (s.sequence, s.uri.clone(), s.is_discontinuous)).collect();
        assert_eq!((got, list.ignored), (expected, ignored), "{name}");
    }
    let no_text = media(b"#EXTM3U\n# \xFF\n#EXTINF:5,\n\xFF\n#EXTINF:5,\nb\n");
    assert_eq!((short(&no_text), no_text.ignored), (vec![(1, "/ace/m/x/b", 5_000_000, true)], 2));
}

#[test]
fn tags_of_the_whole_list_hold_wherever_they_stand() {
    let list = media(
        b"#EXTM3U\n#EXT-X-DISCONTINUITY-SEQUENCE:3\n#EXTINF:5,\na\n#EXT-X-ENDLIST\n#EXT-X-MEDIA-SEQUENCE:9\n",
    );
    assert_eq!((list.sequence, list.discontinuity_sequence, list.is_ended), (9, Some(3), true));
    assert_eq!(list.segments[0].sequence, 9);
}

#[test]
fn hls_not_ready_is_told_from_a_list() {
    for (name, body) in [
        ("a text", &b"Loading, please wait\n"[..]),
        ("an error", b"download not found"),
        ("nothing", b""),
        ("blank lines", b"\n \r\n"),
        ("a page", b"<html>#EXTM3U</html>"),
        ("the header further down", b"# hello\n#EXTM3U\n"),
        ("another header", b"#EXTM3UX\n#EXTINF:5,\na\n"),
        ("JSON", b"{\"response\": null}"),
        ("a transport stream", &[0x47; 376]),
    ] {
        assert_eq!(parse(body, PATH), Err(ListError::NotAPlaylist), "{name}");
    }
    for (name, body) in [
        ("no segments", "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:7\n#EXT-X-MEDIA-SEQUENCE:0\n"),
        ("a header alone", "#EXTM3U"),
        ("words behind it", "#EXTM3U\nLoading, please wait\n"),
    ] {
        assert_eq!(media(body.as_bytes()).segments, [], "{name}");
    }
}

#[test]
fn lists_that_are_no_transport_streams_are_refused() {
    use Unsupported::{ByteRanges, Encrypted, Fragmented, KeyFramesOnly};
    for (lines, what) in [
        ("#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:5,\na\n", Encrypted),
        ("#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\"\n#EXTINF:5,\na\n", Encrypted),
        ("#EXT-X-KEY:URI=\"k\"\n#EXTINF:5,\na\n", Encrypted),
        ("#EXTINF:5,\na\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:5,\nb\n", Encrypted),
        ("#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:5,\na.m4s\n", Fragmented),
        ("#EXTINF:5,\n#EXT-X-BYTERANGE:1000@0\na\n", ByteRanges),
        ("#EXT-X-I-FRAMES-ONLY\n#EXTINF:5,\na\n", KeyFramesOnly),
    ] {
        let got = parse(format!("#EXTM3U\n{lines}").as_bytes(), PATH);
        assert_eq!(got, Err(ListError::Unsupported(what)), "{lines}");
    }
}

#[test]
fn bodies_beyond_the_bounds_are_refused() {
    let longest = format!("#EXTM3U\n{}", "\n".repeat(MAX_BODY - 8));
    assert!(media(longest.as_bytes()).segments.is_empty());
    let longer = format!("{longest}\n");
    assert_eq!(parse(longer.as_bytes(), PATH), Err(ListError::TooLong { len: MAX_BODY + 1 }));
    for (entry, count) in [
        ("#EXTINF:5,\na\n", MAX_ENTRIES),
        ("#EXTINF:5,\na b\n", MAX_ENTRIES),
        ("#EXT-X-STREAM-INF:BANDWIDTH=1\na\n", MAX_ENTRIES),
        ("#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"s\"\n", MAX_ENTRIES),
    ] {
        let most = format!("#EXTM3U\n{}", entry.repeat(count));
        assert!(parse(most.as_bytes(), PATH).is_ok(), "{entry}");
        let more = format!("{most}{entry}");
        assert_eq!(parse(more.as_bytes(), PATH), Err(ListError::TooMany), "{entry}");
    }
}

#[test]
fn a_master_playlist_is_told_from_one_of_segments() {
    let variants = "#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n";
    let master = parse(format!("#EXTM3U\n{variants}").as_bytes(), PATH).unwrap();
    assert_eq!(master.variant().map(|v| &*v.uri), Some("/ace/m/x/a.m3u8"));
    assert_eq!(master.media(), None);
    let both = parse(format!("{SAMPLE}{variants}").as_bytes(), PATH).unwrap();
    assert_eq!(both.media().map(|list| list.segments.len()), Some(2));
    assert_eq!(both.variant(), None);
    let useless = parse(b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\ndata:x\n", PATH).unwrap();
    assert_eq!((useless.media(), useless.variant()), (None, None));
}

#[test]
fn errors_say_what_is_wrong() {
    for (error, text) in [
        (ListError::NotAPlaylist, "the body does not begin with #EXTM3U"),
        (ListError::TooLong { len: 2_000_000 }, "the playlist has 2000000 bytes, more than 1048576"),
        (ListError::TooMany, "the playlist has more than 4096 entries"),
        (ListError::Unsupported(Unsupported::Encrypted), "the playlist's segments are encrypted"),
    ] {
        assert_eq!(error.to_string(), text);
    }
}

/// Lines that are likely to go wrong together.
fn likely_line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("#EXTM3U".to_owned()),
        "#EXTINF:[0-9.,-]{0,8}",
        "#EXT-X-(MEDIA-SEQUENCE|TARGETDURATION|DISCONTINUITY-SEQUENCE):[0-9]{0,20}",
        "#EXT-X-(DISCONTINUITY|ENDLIST|GAP|KEY|MAP|BYTERANGE|MEDIA|STREAM-INF)(:[A-Z=,\"]{0,12})?",
        "[a-z0-9./?:]{0,12}",
        ".{0,12}",
    ]
}

proptest! {
    #[test]
    fn any_bytes_get_a_verdict(body in prop::collection::vec(any::<u8>(), 0..400)) {
        for body in [body.clone(), [b"#EXTM3U\n", &body[..]].concat()] {
            check(&parse(&body, PATH))?;
        }
    }

    #[test]
    fn any_lines_get_a_verdict_however_they_end(lines in prop::collection::vec(likely_line(), 0..40)) {
        let body = format!("#EXTM3U\n{}", lines.join("\n"));
        let got = parse(body.as_bytes(), PATH);
        check(&got)?;
        prop_assert_eq!(got, parse(body.replace('\n', "\r\n").as_bytes(), PATH));
    }
}

fn check(got: &Result<Playlist, ListError>) -> Result<(), TestCaseError> {
    if let Ok(Playlist::Media(list)) = got {
        prop_assert!((LEAST_TARGET..=MAX_DURATION).contains(&list.target));
        prop_assert!(list.segments.is_sorted_by(|a, b| a.sequence < b.sequence));
        prop_assert!(list.segments.iter().all(|s| s.uri.starts_with('/') && s.duration <= MAX_DURATION));
    }
    Ok(())
}
