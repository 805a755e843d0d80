//! The Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write};

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Never falls.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Cumulative buckets.
    Histogram,
}

/// A page of metrics. Families are written one after the other, each once.
#[derive(Debug)]
pub(super) struct Page(String);

/// Labels of a sample: names of ours, values of anybody's.
pub(super) type Labels<'a> = &'a [(&'a str, &'a dyn Display)];

impl Page {
    /// Empty, with room for a usual page.
    pub(super) fn new() -> Self {
        Self(String::with_capacity(32 << 10))
    }

    /// The page.
    pub(super) fn finish(self) -> String {
        self.0
    }

    /// Opens a family; its samples follow.
    pub(super) fn family<'a>(&'a mut self, kind: Kind, name: &'a str, help: &str) -> Family<'a> {
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.write(format_args!("# HELP {name} "));
        // Help texts escape backslash and newline only; ours have neither.
        self.0.push_str(help);
        self.write(format_args!("\n# TYPE {name} {word}\n"));
        Family { page: self, name }
    }

    /// A family of one sample without labels.
    pub(super) fn single(&mut self, kind: Kind, name: &str, help: &str, value: impl Display) {
        self.family(kind, name, help).sample(&[], value);
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        self.0.write_fmt(text).ok();
    }
}

/// An open family.
pub(super) struct Family<'a> {
    page: &'a mut Page,
    name: &'a str,
}

impl Family<'_> {
    /// One sample of a counter or gauge.
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.line("", labels, None, value);
    }

    /// One histogram. `buckets` are upper bounds with the count of all values
    /// up to them, rising; `count` is that of all values, `sum` their sum.
    pub(super) fn histogram(&mut self, labels: Labels<'_>, buckets: &[(f64, u64)], count: u64, sum: f64) {
        for (bound, below) in buckets {
            self.line("_bucket", labels, Some(bound), below);
        }
        self.line("_bucket", labels, Some(&"+Inf"), count);
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, count);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&dyn Display>, value: impl Display) {
        let name = self.name;
        self.page.write(format_args!("{name}{suffix}"));
        let bound = bound.map(|bound| ("le", bound));
        let mut before = '{';
        for (label, value) in labels.iter().copied().chain(bound) {
            self.page.write(format_args!("{before}{label}=\"{}\"", Escaped(value)));
            before = ',';
        }
        let end = if before == ',' { "}" } else { "" };
        self.page.write(format_args!("{end} {value}\n"));
    }
}

/// A label's value, with backslash, quote and newline escaped.
struct Escaped<'a>(&'a dyn Display);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        struct Escaping<'a, 'b>(&'a mut std::fmt::Formatter<'b>);
        impl Write for Escaping<'_, '_> {
            fn write_str(&mut self, s: &str) -> std::fmt::Result {
                s.chars().try_for_each(|c| match c {
                    '\\' => self.0.write_str("\\\\"),
                    '"' => self.0.write_str("\\\""),
                    '\n' => self.0.write_str("\\n"),
                    c => self.0.write_char(c),
                })
            }
        }
        write!(Escaping(f), "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_written_to_the_letter() {
        let mut page = Page::new();
        page.single(Kind::Gauge, "a", "An a.", 1.5);
        page.family(Kind::Counter, "b_total", "Some b.").sample(&[("x", &"q\"\\\n"), ("y", &7)], 3);
        page.family(Kind::Histogram, "c", "C.").histogram(&[("s", &0)], &[(0.5, 1), (2.0, 4)], 5, 9.25);
        assert_eq!(
            page.finish(),
            "# HELP a An a.\n# TYPE a gauge\na 1.5\n\
             # HELP b_total Some b.\n# TYPE b_total counter\nb_total{x=\"q\\\"\\\\\\n\",y=\"7\"} 3\n\
             # HELP c C.\n# TYPE c histogram\n\
             c_bucket{s=\"0\",le=\"0.5\"} 1\nc_bucket{s=\"0\",le=\"2\"} 4\nc_bucket{s=\"0\",le=\"+Inf\"} 5\n\
             c_sum{s=\"0\"} 9.25\nc_count{s=\"0\"} 5\n"
        );
    }
}
