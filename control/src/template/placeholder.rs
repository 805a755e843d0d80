//! The places in a text where ports go.

use super::TemplateError;

const ALLOWED: &str = "{http_port}, {https_port}, {api_port} and {p2p_port}, and {{ for a brace";

/// The ports of one engine, as seen inside its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortsFor {
    /// Of the HTTP API and media.
    pub(crate) http: u16,
    /// Of the same by TLS.
    pub(crate) https: Option<u16>,
    /// Of the line API.
    pub(crate) api: Option<u16>,
    /// Of the swarm, TCP and UDP.
    pub(crate) p2p: Option<u16>,
}

/// A port that a text may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Http,
    Https,
    Api,
    P2p,
}

/// What a text is made of.
enum Piece<'a> {
    Text(&'a str),
    Port(Port),
}

/// Fills in the ports; `{{` is a brace, and `}` outside a placeholder too.
///
/// # Errors
/// When there is an unknown placeholder, or one that there is no port for.
pub(crate) fn fill(text: &str, ports: &PortsFor) -> Result<String, TemplateError> {
    let mut filled = String::with_capacity(text.len());
    let mut missing = None;
    scan(text, |piece| match piece {
        Piece::Text(text) => filled.push_str(text),
        Piece::Port(port) => match ports.get(port) {
            Some(number) => filled.push_str(&number.to_string()),
            None => missing = Some(port),
        },
    })?;
    match missing {
        Some(port) => {
            let wrong = format!("there is no port for {{{}}}", port.word());
            Err(TemplateError::new("placeholder", wrong, "placeholders of ports that the engine was given"))
        }
        None => Ok(filled),
    }
}

/// Names the ports that a text asks for, in order.
///
/// # Errors
/// When there is an unknown placeholder.
pub(super) fn asks(text: &str, mut port: impl FnMut(Port)) -> Result<(), TemplateError> {
    scan(text, |piece| match piece {
        Piece::Text(_) => {}
        Piece::Port(asked) => port(asked),
    })
}

/// The text that `fill` makes `text` of.
pub(super) fn escaped(text: &str) -> String {
    text.replace('{', "{{")
}

fn scan<'a>(text: &'a str, mut on: impl FnMut(Piece<'a>)) -> Result<(), TemplateError> {
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        on(Piece::Text(before));
        if let Some(after) = after.strip_prefix('{') {
            on(Piece::Text("{"));
            rest = after;
            continue;
        }
        let placeholder =
            after.split_once('}').and_then(|(word, after)| Some((Port::from_word(word)?, after)));
        let Some((port, after)) = placeholder else {
            return Err(TemplateError::new("placeholder", "a brace begins no known placeholder", ALLOWED));
        };
        on(Piece::Port(port));
        rest = after;
    }
    on(Piece::Text(rest));
    Ok(())
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

impl PortsFor {
    fn get(&self, port: Port) -> Option<u16> {
        match port {
            Port::Http => Some(self.http),
            Port::Https => self.https,
            Port::Api => self.api,
            Port::P2p => self.p2p,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_filled_in_and_nothing_else() {
        let all = PortsFor { http: 1, https: Some(2), api: Some(3), p2p: Some(4) };
        let one = PortsFor { http: 65_535, https: None, api: None, p2p: None };
        for (text, ports, filled) in [
            ("", all, Some("")),
            ("plain ü", all, Some("plain ü")),
            ("{http_port}", one, Some("65535")),
            ("a{http_port}b{https_port}{api_port}c{p2p_port}", all, Some("a1b23c4")),
            ("{http_port}{http_port}", all, Some("11")),
            ("{{http_port}", all, Some("{http_port}")),
            ("{{{http_port}}", all, Some("{1}")),
            ("{{}}", all, Some("{}}")),
            ("}", all, Some("}")),
            ("{https_port}", one, None),
            ("{api_port}", one, None),
            ("{p2p_port}", one, None),
            ("{", all, None),
            ("{}", all, None),
            ("{port}", all, None),
            ("{http_port", all, None),
            ("{ http_port }", all, None),
            ("{HTTP_PORT}", all, None),
            ("ok {http_port} {x", all, None),
        ] {
            assert_eq!(fill(text, &ports).ok().as_deref(), filled, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_filled_or_refused_and_comes_through_escaped(text: String) {
            let ports = PortsFor { http: 1, https: None, api: None, p2p: None };
            fill(&text, &ports).ok();
            assert_eq!(fill(&escaped(&text), &ports), Ok(text));
        }
    }
}
