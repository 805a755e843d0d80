//! The configuration as an operator writes it: what is wrong is named, what is
//! stronger counts, and what is printed reads back.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, path::PathBuf};

use support::command::{output, stderr, stdout};

mod support;

/// A file that lives as long as the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, content: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

#[test]
fn each_mistake_is_named_with_its_value_its_place_and_what_is_allowed() {
    for (name, file, variables, flags, expected) in [
        (
            "an unknown key",
            "[streams]\nlinger = \"1s\"\nlingr = \"1s\"",
            &[][..],
            &[][..],
            "streams.lingr = \"1s\": unknown key; the nearest is streams.linger (FILE, line 3)",
        ),
        (
            "a key outside its table",
            "listen = \"127.0.0.1:1\"",
            &[],
            &[],
            "listen = \"127.0.0.1:1\": unknown key; the nearest is server.listen (FILE, line 1)",
        ),
        (
            "a value of another type",
            "\n[engines]\ncapacity = \"3\"",
            &[],
            &[],
            "engines.capacity = \"3\": not allowed; allowed: a whole number from 1 to 20 (FILE, line 3)",
        ),
        (
            "a table in a value's place",
            "[server.listen]\nport = 1",
            &[],
            &[],
            "server.listen = a table: not allowed; allowed: IP:PORT",
        ),
        (
            "a number out of range",
            "[viewers]\nmax_laps = 0",
            &[],
            &[],
            "viewers.max_laps = 0: not allowed; allowed: a whole number from 1 to 1000 (FILE, line 2)",
        ),
        (
            "a number beyond 64 bits",
            "[viewers]\nmax = 99999999999999999999",
            &[],
            &[],
            "viewers.max = 99999999999999999999: not allowed; allowed: a whole number from 1 to 1000000",
        ),
        (
            "a duration without its unit",
            "[streams]\nlinger = 15",
            &[],
            &[],
            "streams.linger = 15: not allowed; allowed: a duration from 0s to 1day, with its unit",
        ),
        (
            "a size without its unit",
            "[streams]\nwindow_bytes = \"64\"",
            &[],
            &[],
            "streams.window_bytes = \"64\": not allowed; allowed: a size from 1MiB to 4GiB",
        ),
        ("no TOML", "[server\n", &[], &[], "(FILE, line 1)|FILE, line 1: not TOML: "),
        (
            "a variable's value",
            "",
            &[("MILLRACE_STREAMS_START_BUDGET", "0s")],
            &[],
            "streams.start_budget = \"0s\": not allowed; allowed: a duration from 1s to 5m, with its unit, \
             such as \"500ms\", \"15s\" or \"2m\" (variable MILLRACE_STREAMS_START_BUDGET)",
        ),
        (
            "an unknown variable",
            "",
            &[("MILLRACE_LISTEN", "x")],
            &[],
            "MILLRACE_LISTEN = \"x\": unknown variable; the nearest is MILLRACE_SERVER_LISTEN",
        ),
        (
            "a variable of the predecessor",
            "",
            &[("CHANNEL_SHUTDOWN_DELAY_S", "soon")],
            &[],
            "CHANNEL_SHUTDOWN_DELAY_S = \"soon\": becomes streams.linger = \"soons\", which is not allowed; allowed: a duration",
        ),
        (
            "a flag's value",
            "",
            &[],
            &["--engine-capacity", "21"],
            "engines.capacity = \"21\": not allowed; allowed: a whole number from 1 to 20 (flag --engine-capacity)",
        ),
        (
            "a URL with a path",
            "",
            &[],
            &["--engine", "http://127.0.0.1:6878/ace"],
            "engines.urls = [\"http://127.0.0.1:6878/ace\"]: not allowed; allowed: at most 500 different URLs",
        ),
        (
            "a Docker behind ssh",
            "",
            &[],
            &["--docker", "ssh://root@10.0.0.1"],
            "engines.docker = \"ssh://root@10.0.0.1\": not allowed; allowed: \"unix:///PATH\", \"tcp://HOST:PORT\" or, \
             with TLS, \"https://HOST:PORT\"; ssh:// is not supported: forward the socket with ssh -L",
        ),
        (
            "cores twice",
            "",
            &[],
            &["--cpus", "0,0"],
            "server.cpus = \"0,0\": not allowed; allowed: \"all\", or cores from 0 to 1023",
        ),
        (
            "real and emulated engines",
            "",
            &[],
            &["--engine", "http://127.0.0.1:6878", "--emulate", "2"],
            "engines.urls = [\"http://127.0.0.1:6878\"] (flag --engine) and engines.emulate = 2 (flag --emulate): \
             name real engines or emulate some, not both",
        ),
        (
            "a prebuffer that the window cannot hold",
            "[streams]\nwindow = \"5s\"",
            &[("MILLRACE_VIEWERS_PREBUFFER", "5s")],
            &[],
            "streams.window = \"5s\" (FILE, line 2) and viewers.prebuffer = \"5s\" \
             (variable MILLRACE_VIEWERS_PREBUFFER): the window must be longer than the prebuffer",
        ),
        (
            "a limit beyond its buffer",
            "[viewers]\nsend_buffer = \"16KiB\"",
            &[],
            &[],
            "viewers.send_buffer = \"16KiB\" (FILE, line 2) and viewers.unsent_limit = \"32KiB\" (default): \
             the send buffer must not be smaller than the unsent limit",
        ),
        (
            "a congestion control that the kernel has not",
            "[viewers]\ncongestion = \"nonsense\"",
            &[],
            &[],
            "viewers.congestion = \"nonsense\": the kernel does not offer it; it offers reno",
        ),
        (
            "a congestion control that no kernel has",
            "",
            &[("MILLRACE_VIEWERS_CONGESTION", "a b")],
            &[],
            "viewers.congestion = \"a b\": not allowed; allowed: a name that the kernel offers, such as \"cubic\" \
             or \"bbr\", or \"\" for its default (variable MILLRACE_VIEWERS_CONGESTION)",
        ),
    ] {
        let file = Scratch::new(&name.replace(' ', "-"), file);
        let mut args = vec!["serve", "--config", file.path()];
        args.extend(flags);
        let output = output(variables, &args);
        let said = stderr(&output).replace(file.path(), "FILE");
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(said.starts_with("millrace: the configuration has 1 error\n  "), "{name}: {said}");
        assert!(expected.split('|').any(|e| said.contains(e)), "{name}: {said}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_even_those_that_a_stronger_source_hides() {
    let file = Scratch::new("several", "[streams]\nlinger = 1\nwindwo = \"1s\"\n[viewers]\nmax = 0\n");
    let variables = [("MILLRACE_STREAMS_LINGER", "1s"), ("MILLRACE_NONSENSE", "")];
    let output = output(&variables, &["config", "print", "--config", file.path(), "--log", "xml"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.starts_with("millrace: the configuration has 5 errors\n"), "{said}");
    for part in ["streams.linger = 1", "streams.windwo", "viewers.max = 0", "MILLRACE_NONSENSE", "flag --log"]
    {
        assert_eq!(said.matches(part).count(), 1, "{part} in {said}");
    }
}

#[test]
fn a_missing_file_and_an_unknown_flag_are_errors_of_the_same_kind() {
    for (args, expected) in [
        (&["serve", "--config", "/nonexistent.toml"][..], "/nonexistent.toml: cannot be read: No such file"),
        (&["config", "check", "/nonexistent.toml"], "/nonexistent.toml: cannot be read: No such file"),
        (&["serve", "--dockre", "x"], "unexpected argument '--dockre'"),
        (&["server"], "unrecognized subcommand"),
    ] {
        let output = output(&[], args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(expected), "{args:?}: {}", stderr(&output));
    }
}

/// `key = value` lines of printed configuration, without who set them.
fn values(toml: &str) -> Vec<&str> {
    let lines = toml.lines().filter(|l| !l.starts_with('#') && !l.is_empty());
    lines.map(|l| l.split("  # ").next().unwrap()).collect()
}

#[test]
fn a_flag_beats_a_variable_beats_the_predecessor_beats_the_file_beats_the_default() {
    let file = Scratch::new("precedence", "[engines]\ncapacity = 4\nurls = [\"http://a:1\"]\n");
    let config = ("MILLRACE_CONFIG", file.path());
    let predecessor = ("MAX_STREAMS_PER_ENGINE", "5");
    let own = ("MILLRACE_ENGINES_CAPACITY", "6");
    let flag = ["--engine-capacity", "7", "--emulate", "1"];
    for (variables, flags, expected) in [
        (&[][..], &[][..], "capacity = 3\n".to_owned()),
        (&[config], &[], format!("capacity = 4  # {}, line 2\n", file.path())),
        (&[config, predecessor], &[], "capacity = 5  # variable MAX_STREAMS_PER_ENGINE\n".into()),
        (&[config, own, predecessor], &[], "capacity = 6  # variable MILLRACE_ENGINES_CAPACITY\n".into()),
        (&[config, own, predecessor], &flag, "capacity = 7  # flag --engine-capacity\n".into()),
        (&[config], &flag, "urls = []\n".into()),
        (&[config], &flag, "emulate = 1  # flag --emulate\n".into()),
        (&[config], &[], format!("urls = [\"http://a:1\"]  # {}, line 3\n", file.path())),
    ] {
        let mut args = vec!["config", "print"];
        args.extend(flags);
        let printed = stdout(&output(variables, &args));
        assert!(printed.contains(&format!("\n{expected}")), "{expected} not in {printed}");
    }
}

#[test]
fn a_flag_names_another_file_than_the_variable() {
    let file = Scratch::new("named", "[viewers]\nmax = 11\n");
    let printed = stdout(&output(
        &[("MILLRACE_CONFIG", "/nonexistent")],
        &["config", "print", "--config", file.path()],
    ));
    assert!(printed.contains("\nmax = 11"), "{printed}");
}

#[test]
fn printed_configuration_reads_back_as_the_same() {
    let variables = [
        ("MILLRACE_SERVER_LISTEN", "[::1]:9000"),
        ("MILLRACE_SERVER_CPUS", "0-1,3"),
        ("MILLRACE_SERVER_DATA_DIR", "/tmp/a \"b\" \\c # d"),
        ("MILLRACE_SERVER_LOG", "json"),
        ("MILLRACE_ENGINES_URLS", "http://a:1,http://[::1]:2"),
        ("MILLRACE_STREAMS_LINGER", "1h 2m 3s"),
        ("MILLRACE_STREAMS_WINDOW_BYTES", "1048577B"),
        ("MILLRACE_STREAMS_PRIVATE_URLS", "true"),
        ("MILLRACE_VIEWERS_PREBUFFER", "1500ms"),
    ];
    let first = stdout(&output(&variables, &["config", "print"]));
    assert_eq!(first.matches("  # variable MILLRACE_").count(), variables.len());
    let file = Scratch::new("printed", &first);
    assert_eq!(stdout(&output(&[], &["config", "check", file.path()])), format!("{}: ok\n", file.path()));
    let second = stdout(&output(&[], &["config", "print", "--config", file.path()]));
    assert_eq!(values(&first), values(&second));
    assert_ne!(values(&first), values(&stdout(&output(&[], &["config", "print"]))));
}
