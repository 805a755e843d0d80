//! Logs of containers, as lines that may be shown.

use std::collections::VecDeque;

use bollard::container::LogOutput;

use super::secrets::Secrets;

/// Lines of one tail at most.
pub(crate) const MOST_LINES: usize = 500;
/// Bytes of one tail at most.
pub(crate) const MOST_BYTES: usize = 64 << 10;
/// Characters of one line at most.
const LINE: usize = 1_024;
/// Bytes of a line that are looked at for secrets. Docker cuts lines there, too.
const RAW_LINE: usize = 16 << 10;

/// Where a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line, without control characters and secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLine {
    /// Where it was written to.
    pub(crate) output: Output,
    /// At most 1,024 characters.
    pub(crate) text: String,
}

/// Puts lines together out of what Docker sends.
pub(super) struct Lines {
    secrets: Secrets,
    /// What has no end yet, of either output.
    open: [Vec<u8>; 2],
    ready: VecDeque<LogLine>,
}

impl Lines {
    /// Those of a container with these secrets.
    pub(super) fn new(secrets: Secrets) -> Self {
        Self { secrets, open: [Vec::new(), Vec::new()], ready: VecDeque::new() }
    }

    /// Takes what came; whole lines can be had with [`Self::next`].
    pub(super) fn add(&mut self, came: &LogOutput) {
        let (output, message) = match came {
            LogOutput::StdErr { message } => (Output::Stderr, message),
            LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
                (Output::Stdout, message)
            }
        };
        for part in message.split_inclusive(|byte| *byte == b'\n') {
            let open = &mut self.open[output as usize];
            let room = RAW_LINE - open.len();
            open.extend(part.iter().take(room));
            if part.ends_with(b"\n") {
                self.close(output);
            }
        }
    }

    /// Takes what has no end as a line.
    pub(super) fn end(&mut self) {
        for output in [Output::Stdout, Output::Stderr] {
            if !self.open[output as usize].is_empty() {
                self.close(output);
            }
        }
    }

    /// The next whole line.
    pub(super) fn next(&mut self) -> Option<LogLine> {
        self.ready.pop_front()
    }

    fn close(&mut self, output: Output) {
        let raw = std::mem::take(&mut self.open[output as usize]);
        let text: String = String::from_utf8_lossy(&raw)
            .chars()
            .map(|c| if c == '\t' { ' ' } else { c })
            .filter(|c| !c.is_control())
            .collect();
        let mut text = self.secrets.redact(&text);
        if let Some((end, _)) = text.char_indices().nth(LINE) {
            text.truncate(end);
        }
        self.ready.push_back(LogLine { output, text });
    }
}

/// The newest lines that fit.
pub(super) struct Tail {
    lines: VecDeque<LogLine>,
    bytes: usize,
    most_lines: usize,
    most_bytes: usize,
}

impl Tail {
    /// At most so many lines and bytes, and never more than [`MOST_LINES`] and
    /// [`MOST_BYTES`].
    pub(super) fn new(lines: usize, bytes: usize) -> Self {
        let (most_lines, most_bytes) = (lines.min(MOST_LINES), bytes.min(MOST_BYTES));
        Self { lines: VecDeque::new(), bytes: 0, most_lines, most_bytes }
    }

    /// Adds a line; the oldest ones go.
    pub(super) fn add(&mut self, line: LogLine) {
        self.bytes += line.text.len();
        self.lines.push_back(line);
        while self.lines.len() > self.most_lines || self.bytes > self.most_bytes {
            let Some(oldest) = self.lines.pop_front() else { return };
            self.bytes -= oldest.text.len();
        }
    }

    /// The oldest line first.
    pub(super) fn into_lines(self) -> Vec<LogLine> {
        self.lines.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(text: &str) -> LogOutput {
        LogOutput::StdOut { message: text.to_owned().into() }
    }

    fn err(text: &str) -> LogOutput {
        LogOutput::StdErr { message: text.to_owned().into() }
    }

    #[test]
    fn lines_are_whole_plain_and_without_secrets() {
        let long = "ä".repeat(2_000);
        let hidden = format!("{}hunter22", "x".repeat(1_020));
        for (name, came, expected) in [
            ("one", vec![out("a\n")], vec!["o a"]),
            ("several", vec![out("a\n\nb\n")], vec!["o a", "o ", "o b"]),
            ("in parts", vec![out("a"), out("b\nc"), out("d\n")], vec!["o ab", "o cd"]),
            ("two outputs", vec![out("a"), err("x\n"), out("b\n")], vec!["e x", "o ab"]),
            ("no end", vec![out("a"), err("b")], vec!["o a", "e b"]),
            ("control", vec![out("\u{1b}[31ma\tb\r\0\u{85}\n")], vec!["o [31ma b"]),
            (
                "no text",
                vec![LogOutput::StdOut { message: b"\xff\xfea\n".to_vec().into() }],
                vec!["o \u{fffd}\u{fffd}a"],
            ),
            ("secret", vec![out("password=hunt"), out("er22!\n")], vec!["o password=***!"]),
            ("secret in control characters", vec![out("hunt\u{1b}er22\n")], vec!["o ***"]),
            ("long", vec![out(&format!("{long}\n"))], vec![&*format!("o {}", "ä".repeat(1_024)).leak()]),
            (
                "a secret where it is cut",
                vec![out(&hidden)],
                vec![&*format!("o {}***", "x".repeat(1_020)).leak()],
            ),
        ] {
            let mut lines = Lines::new(Secrets::of([("PASSWORD", "hunter22")], []));
            came.iter().for_each(|came| lines.add(came));
            lines.end();
            let read: Vec<_> = std::iter::from_fn(|| lines.next())
                .map(|line| {
                    format!("{} {}", if line.output == Output::Stdout { "o" } else { "e" }, line.text)
                })
                .collect();
            assert_eq!(read, expected, "{name}");
        }
    }

    #[test]
    fn a_line_without_end_takes_no_more_than_docker_gives_one() {
        let mut lines = Lines::new(Secrets::default());
        for _ in 0..1_000 {
            lines.add(&out(&"x".repeat(1_000)));
        }
        assert_eq!((lines.open[0].len(), lines.ready.len()), (RAW_LINE, 0));
        assert!(lines.open[0].capacity() <= 2 * RAW_LINE);
    }

    #[test]
    fn a_tail_has_the_newest_lines_that_fit() {
        let line = |text: String| LogLine { output: Output::Stdout, text };
        for (name, most_lines, most_bytes, count, width, expected) in [
            ("few", 10, 1_000, 3, 1, 3),
            ("none", 0, 1_000, 3, 1, 0),
            ("lines", 10, 1_000, 20, 1, 10),
            ("bytes", 10, 25, 20, 10, 2),
            ("more lines than there may be", 9_999, usize::MAX, 600, 1, 500),
            ("more bytes than there may be", 9_999, usize::MAX, 500, 1_000, 65),
        ] {
            let mut tail = Tail::new(most_lines, most_bytes);
            (0..count).for_each(|i| tail.add(line(format!("{i:width$}"))));
            let lines = tail.into_lines();
            assert_eq!(lines.len(), expected, "{name}");
            let last = lines.last().map(|line| line.text.trim().to_owned());
            assert_eq!(last, (expected > 0).then(|| (count - 1).to_string()), "{name}");
        }
    }
}
