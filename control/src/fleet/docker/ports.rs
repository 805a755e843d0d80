//! The ports of one engine.

use std::fmt;

/// Ports of one engine, the same inside and outside of its container; none
/// is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    /// Its HTTP API and media.
    pub(crate) http: u16,
    /// The same over TLS.
    pub(crate) https: Option<u16>,
    /// Its line-oriented API.
    pub(crate) api: Option<u16>,
    /// Where peers reach it, TCP and UDP.
    pub(crate) p2p: Option<u16>,
}

impl Ports {
    /// All that are set, by the names used in labels and placeholders.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, u16)> {
        let all = [("http", Some(self.http)), ("https", self.https), ("api", self.api), ("p2p", self.p2p)];
        all.into_iter().filter_map(|(name, port)| Some((name, port?)))
    }

    /// Reads what [`fmt::Display`] writes. Names of later versions are passed over.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let [mut http, mut https, mut api, mut p2p] = [None; 4];
        for entry in text.split(',') {
            let (name, port) = entry.trim().split_once('=')?;
            let place = match name {
                "http" => &mut http,
                "https" => &mut https,
                "api" => &mut api,
                "p2p" => &mut p2p,
                _ => continue,
            };
            let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
            if place.replace(port).is_some() {
                return None;
            }
        }
        Some(Self { http: http?, https, api, p2p })
    }
}

/// `http=19000,https=45000`.
impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.all().enumerate().try_for_each(|(i, (name, port))| {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{name}={port}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_they_are_written() {
        let some = |http, https, api, p2p| Some(Ports { http, https, api, p2p });
        for (text, ports) in [
            ("http=19000", some(19000, None, None, None)),
            ("http=1,https=2,api=3,p2p=4", some(1, Some(2), Some(3), Some(4))),
            ("http=1,p2p=65535", some(1, None, None, Some(65535))),
        ] {
            assert_eq!(Ports::parse(text), ports, "{text}");
            assert_eq!(ports.unwrap().to_string(), text);
        }
        for (text, ports) in [
            ("p2p=4, http=1, rtsp=9", some(1, None, None, Some(4))),
            ("", None),
            ("http", None),
            ("https=1", None),
            ("http=0", None),
            ("http=65536", None),
            ("http=1,http=1", None),
            ("http=1,api=x", None),
        ] {
            assert_eq!(Ports::parse(text), ports, "{text}");
        }
    }
}
