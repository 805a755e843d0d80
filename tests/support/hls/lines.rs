//! From bytes to lines, tags and attributes. Source: RFC 8216 §4.1, §4.2.

use super::{
    Complaint,
    tags::{Attribute, Carries, Kind, Tag},
    values,
};

/// A line that says something: neither empty nor a comment.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// From 1.
    pub(super) number: usize,
    pub(super) content: Content<'a>,
}

/// What a line says.
#[derive(Debug)]
pub(super) enum Content<'a> {
    /// A tag with what stands behind its colon.
    Tag(&'static Tag, &'a str),
    /// Anything that is no tag.
    Uri(&'a str),
}

/// The text of a playlist, whatever its bytes.
pub(super) fn decode(bytes: &[u8], complaints: &mut Vec<Complaint>) -> String {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(error) => {
            let line = 1 + bytes.iter().take(error.valid_up_to()).filter(|b| **b == b'\n').count();
            complaints.push(Complaint::at(line, "encoding", "no UTF-8"));
            String::from_utf8_lossy(bytes).into_owned()
        }
    };
    match text.strip_prefix('\u{feff}') {
        Some(rest) => {
            complaints.push(Complaint::at(1, "encoding", "a byte order mark"));
            rest.to_owned()
        }
        None => text,
    }
}

/// The lines of `text` that say something, in order.
pub(super) fn split<'a>(text: &'a str, complaints: &mut Vec<Complaint>) -> Vec<Line<'a>> {
    if !text.is_empty() && !text.ends_with('\n') {
        complaints.push(Complaint::at(text.lines().count(), "line-end", "the last line has none"));
    }
    let mut lines = Vec::new();
    for (place, line) in text.split_terminator('\n').enumerate() {
        let number = place + 1;
        let line = line.strip_suffix('\r').unwrap_or(line);
        check_characters(number, line, complaints);
        if let Some(content) = content(number, line, complaints) {
            lines.push(Line { number, content });
        }
    }
    match lines.first() {
        Some(Line { number: 1, content: Content::Tag(tag, _) }) if tag.name == "EXTM3U" => {}
        _ => complaints.push(Complaint::at(1, "header", "the first line is not #EXTM3U")),
    }
    lines
}

fn check_characters(number: usize, line: &str, complaints: &mut Vec<Complaint>) {
    if line.contains('\r') {
        complaints.push(Complaint::at(number, "line-end", "a carriage return within a line"));
    }
    // The one list that has tabs between its elements. Source: bis §4.4.5.2.
    let may_tab = line.starts_with("#EXT-X-SKIP:");
    let is_wrong = |c: char| c.is_control() && c != '\r' && !(c == '\t' && may_tab);
    if let Some(c) = line.chars().find(|c| is_wrong(*c)) {
        complaints.push(Complaint::at(number, "encoding", format!("control character {c:?}")));
    }
}

fn content<'a>(number: usize, line: &'a str, complaints: &mut Vec<Complaint>) -> Option<Content<'a>> {
    // A title may have any, and a comment is nobody's.
    let is_free = line.starts_with("#EXTINF:") || (line.starts_with('#') && !line.starts_with("#EXT"));
    if !is_free && line.trim() != line {
        complaints.push(Complaint::at(number, "whitespace", "around a line"));
    }
    let line = if is_free { line } else { line.trim() };
    if line.is_empty() || (line.starts_with('#') && !line.starts_with("#EXT")) {
        return None;
    }
    let Some(tag) = line.strip_prefix('#') else {
        if !values::is_uri(line) {
            complaints.push(Complaint::at(number, "uri", format!("{line:?} is none")));
        }
        return Some(Content::Uri(line));
    };
    let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
    let Some(known) = Tag::named(name) else {
        complaints.push(Complaint::at(number, "unknown-tag", format!("#{name}")));
        return None;
    };
    let has_colon = tag.contains(':');
    let is_right = match known.carries {
        Carries::Nothing => !has_colon,
        Carries::Integer => values::integer(value).is_some(),
        Carries::Other => !value.is_empty(),
        Carries::Attributes(_) => true,
    };
    if !is_right {
        complaints.push(Complaint::at(number, "tag-value", format!("#{tag}")));
    }
    Some(Content::Tag(known, value))
}

/// The attributes of a tag, by name; quotes are taken off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes(Vec<(String, String)>);

impl Attributes {
    /// Reads those of `tag` from what stands behind its colon.
    pub(super) fn read(number: usize, tag: &Tag, list: &str, complaints: &mut Vec<Complaint>) -> Self {
        let Carries::Attributes(known) = tag.carries else { return Self::default() };
        let mut found = Self::default();
        let mut complain = |rule, text: String| {
            complaints.push(Complaint::at(number, rule, format!("#{}: {text}", tag.name)));
        };
        let mut rest = list;
        loop {
            let Some((name, value, is_quoted, behind)) = next(rest) else {
                complain("attribute-syntax", format!("at {rest:?}"));
                break;
            };
            match known.iter().find(|a| a.name == name) {
                // Source: RFC 8216 §4.3.2.7.
                None if tag.name == "EXT-X-DATERANGE" && name.starts_with("X-") => {}
                None => complain("attribute-unknown", name.to_owned()),
                Some(attribute) if !is_of_kind(attribute.kind, value, is_quoted) => {
                    complain("attribute-type", format!("{name} is to be {:?}: {value:?}", attribute.kind));
                }
                Some(_) => {}
            }
            if found.has(name) {
                complain("attribute-twice", name.to_owned());
            }
            found.0.push((name.to_owned(), value.to_owned()));
            match behind {
                Some(behind) => rest = behind,
                None => break,
            }
        }
        for Attribute { name, .. } in known.iter().filter(|a| a.is_required && !found.has(a.name)) {
            complain("attribute-missing", (*name).to_owned());
        }
        found
    }

    /// Whether it is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    /// Its text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Its value as decimal-integer.
    pub(super) fn integer(&self, name: &str) -> Option<u64> {
        self.text(name).and_then(values::integer)
    }

    /// Its value as decimal-floating-point.
    pub(super) fn seconds(&self, name: &str) -> Option<std::time::Duration> {
        self.text(name).and_then(values::seconds)
    }

    /// Whether it says YES.
    pub(super) fn is_yes(&self, name: &str) -> bool {
        self.text(name) == Some("YES")
    }
}

/// The first attribute of a list: its name, its value, whether that was quoted,
/// and what follows the comma behind it.
fn next(list: &str) -> Option<(&str, &str, bool, Option<&str>)> {
    let (name, rest) = list.split_once('=')?;
    let is_name = |b: u8| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'-');
    if name.is_empty() || !name.bytes().all(is_name) {
        return None;
    }
    let (value, is_quoted, rest) = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').map(|(value, rest)| (value, true, rest))?,
        None => {
            let end = rest.find(',').unwrap_or(rest.len());
            let (value, rest) = rest.split_at_checked(end)?;
            (value, false, rest)
        }
    };
    if !is_quoted && !values::is_enumerated(value) {
        return None;
    }
    match rest.strip_prefix(',') {
        Some(behind) => Some((name, value, is_quoted, Some(behind))),
        None if rest.is_empty() => Some((name, value, is_quoted, None)),
        None => None,
    }
}

fn is_of_kind(kind: Kind, value: &str, is_quoted: bool) -> bool {
    match kind {
        Kind::Quoted => is_quoted,
        Kind::Uri => is_quoted && values::is_uri(value),
        Kind::QuotedOrNone => is_quoted || value == "NONE",
        _ if is_quoted => false,
        Kind::Integer => values::integer(value).is_some(),
        Kind::Float => values::seconds(value).is_some(),
        Kind::Signed => values::is_signed(value),
        Kind::Hexadecimal => values::is_hexadecimal(value),
        Kind::Resolution => values::resolution(value).is_some(),
        Kind::Enumerated(allowed) => allowed.contains(&value),
    }
}
