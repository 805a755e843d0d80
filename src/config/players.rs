//! Rules of patience, by player.

use millrace_dataplane::PlayerRule;

use super::kinds::{Given, Kind, quoted};

/// Rules that anybody could want.
const MOST: usize = 200;

fn parse(text: &str) -> Option<PlayerRule> {
    let (agent, patience) = text.rsplit_once('=')?;
    let agent = agent.trim().to_ascii_lowercase();
    if agent.is_empty() || agent.len() > 200 {
        return None;
    }
    Some(PlayerRule { agent: agent.into(), patience: patience.trim().parse().ok()? })
}

impl Kind for Vec<PlayerRule> {
    type Range = ();

    fn read(given: &Given, (): &()) -> Option<Self> {
        let rules: Option<Self> = match given {
            Given::Word(s) if s.trim().is_empty() => Some(Vec::new()),
            Given::Word(s) => s.split(',').map(parse).collect(),
            Given::List(items) => items.iter().map(|i| i.text().and_then(parse)).collect(),
            _ => None,
        };
        rules.filter(|rules| rules.len() <= MOST)
    }

    fn allowed((): &()) -> String {
        format!("at most {MOST} rules such as \"tivimate=2\" or \"curl=status\", with 0 to 60 seconds")
    }

    fn to_toml(&self) -> String {
        let rules: Vec<_> = self.iter().map(|r| quoted(&format!("{}={}", r.agent, r.patience))).collect();
        format!("[{}]", rules.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_from_lists_and_from_words() {
        let read = |given| Vec::<PlayerRule>::read(&given, &()).map(|rules| rules.to_toml());
        let list = |rules: &[&str]| Given::List(rules.iter().map(|r| Given::Text((*r).into())).collect());
        let toml = Some(r#"["tivimate/5=2.5", "curl=status"]"#.to_owned());
        assert_eq!(read(list(&["TiviMate/5=2.5", "curl = status"])), toml);
        assert_eq!(read(Given::Word("tivimate/5=2.5,curl=status".into())), toml);
        assert_eq!(read(Given::Word(String::new())), Some("[]".to_owned()));
        for wrong in ["curl", "=2", "curl=", "curl=61", "curl=soon"] {
            assert_eq!(read(list(&[wrong])), None, "{wrong}");
        }
        assert_eq!(read(list(&["a=1"; 201])), None);
    }
}
