//! A strict reader of the Prometheus text format.

use std::collections::{BTreeMap, BTreeSet};

/// Label names and values, in order.
type Labels = Vec<(String, String)>;

/// What stands between one `# TYPE` line and the next.
#[derive(Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) samples: BTreeMap<(String, Labels), f64>,
}

/// Reads the text format as its specification has it and forgives nothing.
pub(crate) fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut help: BTreeSet<&str> = BTreeSet::new();
    let mut open = String::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, words) = rest.split_once(' ').expect("a help text");
            assert!(help.insert(name) && !words.is_empty(), "HELP once: {line}");
            open = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, open, "TYPE follows HELP");
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            let family = Family { kind: kind.to_owned(), ..Family::default() };
            assert!(families.insert(name.to_owned(), family).is_none(), "TYPE once: {line}");
        } else {
            let (name, labels, value) = sample(line);
            let family = families.get_mut(&open).unwrap_or_else(|| panic!("a family before {line}"));
            let suffix = name.strip_prefix(open.as_str()).unwrap_or_else(|| panic!("{line} within {open}"));
            let allowed: &[&str] =
                if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(allowed.contains(&suffix), "{line}");
            assert!(family.samples.insert((name, labels), value).is_none(), "a series once: {line}");
        }
    }
    families
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            assert!(is_name(label), "{line}");
            let mut value = String::new();
            let mut chars = after.char_indices();
            let close = loop {
                match chars.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next().unwrap().1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        c => panic!("\\{c} in {line}"),
                    }),
                    (_, c) => value.push(c),
                }
            };
            labels.push((label.to_owned(), value));
            rest = &after[close + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break rest = rest.strip_prefix('}').unwrap(),
            }
        }
    }
    (name.to_owned(), labels, rest.strip_prefix(' ').unwrap().parse().unwrap())
}

/// Buckets rise to `+Inf`, which is the count, and there is a sum.
pub(crate) fn check_histogram(name: &str, family: &Family) {
    let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    for ((_, labels), value) in family.samples.iter().filter(|((n, _), _)| n.ends_with("_bucket")) {
        let (le, others): (Vec<_>, Vec<_>) = labels.iter().cloned().partition(|(l, _)| l == "le");
        let bound = if le[0].1 == "+Inf" { f64::INFINITY } else { le[0].1.parse().unwrap() };
        series.entry(others).or_default().push((bound, *value));
    }
    assert!(!series.is_empty(), "{name}");
    for (labels, mut buckets) in series {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name} is cumulative: {buckets:?}");
        let last = buckets.last().unwrap();
        let count = family.samples[&(format!("{name}_count"), labels.clone())];
        assert_eq!(*last, (f64::INFINITY, count), "{name}");
        assert!(family.samples.contains_key(&(format!("{name}_sum"), labels)), "{name}");
    }
}
