//! How patient a player is, by its User-Agent.

use std::{sync::LazyLock, time::Duration};

/// The table of players known.
const TABLE: &str = include_str!("players.tsv");
/// Of a User-Agent, this much is looked at.
const AGENT: usize = 512;
/// Headers are sent after this at the latest, where they are sent first at all.
const LONGEST: Duration = Duration::from_secs(60);

/// What a viewer of a stream that has yet to start is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Nothing, until there is a picture or a real status.
    Status,
    /// Headers after this long, and filler from then on.
    Headers(Duration),
}

impl std::str::FromStr for Patience {
    type Err = ();

    /// `status`, or seconds from 0 to 60, such as `2.5`.
    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "status" {
            return Ok(Self::Status);
        }
        let seconds: f64 = text.parse().map_err(|_| ())?;
        let wait = Duration::try_from_secs_f64(seconds).map_err(|_| ())?;
        if wait <= LONGEST { Ok(Self::Headers(wait)) } else { Err(()) }
    }
}

impl std::fmt::Display for Patience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status => f.write_str("status"),
            Self::Headers(wait) => write!(f, "{}", wait.as_secs_f64()),
        }
    }
}

/// A row of the table, or of the operator's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlayerRule {
    /// What occurs in the User-Agent; in lower case, not empty.
    pub agent: Box<str>,
    /// How patient such players are.
    pub patience: Patience,
}

static RULES: LazyLock<Vec<PlayerRule>> = LazyLock::new(|| TABLE.lines().filter_map(row).collect());

fn row(line: &str) -> Option<PlayerRule> {
    let (agent, patience) = line.split_once('\t').filter(|_| !line.starts_with('#'))?;
    Some(PlayerRule { agent: agent.into(), patience: patience.parse().ok()? })
}

/// How patient a player with this User-Agent is: by the operator's rules, else
/// by the table, else `usual`.
pub(crate) fn patience(agent: &[u8], own: &[PlayerRule], usual: Patience) -> Patience {
    let agent = String::from_utf8_lossy(&agent[..agent.len().min(AGENT)]).to_ascii_lowercase();
    let rules = own.iter().chain(RULES.iter());
    rules.into_iter().find(|rule| agent.contains(&*rule.agent)).map_or(usual, |rule| rule.patience)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Patience = Patience::Headers(Duration::from_millis(2_500));

    #[test]
    fn every_row_of_the_table_is_one_and_can_be_reached() {
        let rows = TABLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count();
        assert_eq!(RULES.len(), rows, "a row that is none");
        for (i, rule) in RULES.iter().enumerate() {
            assert_eq!(*rule.agent, *rule.agent.to_lowercase());
            let earlier = RULES[..i].iter().find(|other| rule.agent.contains(&*other.agent));
            assert_eq!(earlier, None, "hides {rule:?}");
        }
    }

    #[test]
    fn players_are_known_by_their_user_agent() {
        let seconds = |s: f64| Patience::Headers(Duration::from_secs_f64(s));
        for (agent, expected) in [
            ("curl/8.14.1", Patience::Status),
            ("python-requests/2.32", Patience::Status),
            ("TiviMate/5.1.0 (Rockchip)", seconds(2.0)),
            ("VLC/3.0.21 LibVLC/3.0.21", seconds(8.0)),
            ("Lavf/61.7.100", USUAL),
            ("", USUAL),
        ] {
            assert_eq!(patience(agent.as_bytes(), &[], USUAL), expected, "{agent}");
        }
        let own = [PlayerRule { agent: "curl/7".into(), patience: seconds(1.0) }];
        assert_eq!(patience(b"Curl/7.88", &own, USUAL), seconds(1.0), "the operator knows better");
        assert_eq!(patience(&[0xff; 4096], &own, USUAL), USUAL);
    }

    #[test]
    fn patience_reads_back() {
        for text in ["status", "0", "2.5", "60"] {
            assert_eq!(text.parse::<Patience>().unwrap().to_string(), text);
        }
        for text in ["", "-1", "61", "NaN", "inf", "1e300", "2s", "Status"] {
            assert_eq!(text.parse::<Patience>(), Err(()), "{text}");
        }
    }
}
