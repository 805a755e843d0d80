//! Attribute lists, `NAME=value,NAME="a, b"`.

/// The value of the first attribute `name`, without its quotes; none when it is
/// not there. O(length).
///
/// Source: RFC 8216 §4.2. Commas in quotes belong to the value; spaces around
/// names and values are tolerated, and what has no `=` is passed over.
pub(super) fn attribute<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = list;
    while !rest.is_empty() {
        let (pair, after) = split_pair(rest);
        rest = after;
        if let Some((key, value)) = pair.split_once('=')
            && key.trim() == name
        {
            return Some(value.trim().trim_matches('"'));
        }
    }
    None
}

/// The first pair, and what follows the comma behind it.
fn split_pair(list: &str) -> (&str, &str) {
    let mut is_quoted = false;
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted => return (&list[..at], &list[at + 1..]),
            _ => {}
        }
    }
    (list, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_name_whatever_stands_around_them() {
        for (list, name, expected) in [
            ("METHOD=NONE", "METHOD", Some("NONE")),
            ("A=1,B=2", "B", Some("2")),
            ("A=\"x,B=3\",B=2", "B", Some("2")),
            ("A=\"x,y\"", "A", Some("x,y")),
            (" A = 1 , B = \"2\" ", "B", Some("2")),
            ("A=1,A=2", "A", Some("1")),
            ("A=b=c", "A", Some("b=c")),
            ("A,B=2", "A", None),
            ("A=\"open,B=2", "B", None),
            (",,B=2,", "B", Some("2")),
            ("BANDWIDTH-X=1", "BANDWIDTH", None),
            ("", "A", None),
        ] {
            assert_eq!(attribute(list, name), expected, "{list}");
        }
    }
}
