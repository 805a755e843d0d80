//! The places in a text where ports go.

use super::TemplateError;

const ALLOWED: &str = "{http_port}, {https_port}, {api_port} and {p2p_port}, and {{ for a brace";

/// A port that a text may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Http,
    Https,
    Api,
    P2p,
}

/// Names the ports that a text asks for, in order.
///
/// # Errors
/// When there is an unknown placeholder.
pub(super) fn asks(text: &str, mut port: impl FnMut(Port)) -> Result<(), TemplateError> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('{') {
        // A brace that stands for itself.
        if let Some(after) = after.strip_prefix('{') {
            rest = after;
            continue;
        }
        let placeholder =
            after.split_once('}').and_then(|(word, after)| Some((Port::from_word(word)?, after)));
        let Some((asked, after)) = placeholder else {
            return Err(TemplateError::new("placeholder", "a brace begins no known placeholder", ALLOWED));
        };
        port(asked);
        rest = after;
    }
    Ok(())
}

/// The text that is `text` once ports are filled in.
pub(super) fn escaped(text: &str) -> String {
    text.replace('{', "{{")
}

impl Port {
    const fn word(self) -> &'static str {
        match self {
            Self::Http => "http_port",
            Self::Https => "https_port",
            Self::Api => "api_port",
            Self::P2p => "p2p_port",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Http, Self::Https, Self::Api, Self::P2p].into_iter().find(|port| port.word() == word)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As whoever makes a container does it, with ports 40000 to 40003.
    pub(crate) fn fill(text: &str) -> Option<String> {
        asks(text, |_| {}).ok()?;
        let (mut filled, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            if let Some(after) = after.strip_prefix('{') {
                filled.push('{');
                rest = after;
                continue;
            }
            let (word, after) = after.split_once('}')?;
            filled.push_str(match Port::from_word(word)? {
                Port::Http => "40000",
                Port::Https => "40001",
                Port::Api => "40002",
                Port::P2p => "40003",
            });
            rest = after;
        }
        filled.push_str(rest);
        Some(filled)
    }

    #[test]
    fn ports_are_asked_for_by_their_words_and_nothing_else_is() {
        for (text, filled) in [
            ("", Some("")),
            ("plain ü", Some("plain ü")),
            ("{http_port}", Some("40000")),
            ("a{http_port}b{https_port}{api_port}c{p2p_port}", Some("a40000b4000140002c40003")),
            ("{http_port}{http_port}", Some("4000040000")),
            ("{{http_port}", Some("{http_port}")),
            ("{{{http_port}}", Some("{40000}")),
            ("{{}}", Some("{}}")),
            ("}", Some("}")),
            ("{", None),
            ("{}", None),
            ("{port}", None),
            ("{http_port", None),
            ("{ http_port }", None),
            ("{HTTP_PORT}", None),
            ("ok {http_port} {x", None),
        ] {
            assert_eq!(fill(text).as_deref(), filled, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_comes_through_escaped(text: String) {
            fill(&text);
            assert_eq!(fill(&escaped(&text)), Some(text));
        }
    }
}
