//! What must not be shown: values of variables and options whose names say so.

/// Shorter values are no secrets: replacing them would only spoil what is shown.
const SHORTEST: usize = 4;
/// Values of one container at most.
const MOST: usize = 64;
/// Stands where a secret was.
pub(super) const HIDDEN: &str = "***";

/// Parts of the names of variables and options that hold a secret.
const TELLING: [&str; 7] = ["PASS", "TOKEN", "SECRET", "KEY", "AUTH", "CREDENTIAL", "LOGIN"];

/// The secrets of one container.
#[derive(Clone, Default)]
pub(super) struct Secrets {
    /// The longest first, so that none is hidden by half.
    values: Vec<String>,
}

impl Secrets {
    /// Those of its environment, and of a command line of these words.
    pub(super) fn of<'a>(
        environment: impl IntoIterator<Item = (&'a str, &'a str)>,
        words: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut secrets = Self::default();
        for (name, value) in environment {
            if is_telling(name) {
                secrets.add(value);
            }
            // Some images take their whole command line from a variable.
            secrets.add_options(value.split_whitespace());
        }
        secrets.add_options(words);
        secrets.values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        secrets
    }

    /// `text` with each secret replaced.
    pub(super) fn redact(&self, text: &str) -> String {
        self.values.iter().fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN))
    }

    /// `--access-token VALUE` and `--access-token=VALUE`.
    fn add_options<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        let mut before = "";
        for word in words {
            match word.split_once('=') {
                Some((name, value)) if is_telling(name) => self.add(value),
                _ if before.starts_with('-') && is_telling(before) => self.add(word),
                _ => {}
            }
            before = word;
        }
    }

    /// Line by line, as a log shows it.
    fn add(&mut self, value: &str) {
        for line in value.lines().map(|line| line.trim().trim_matches(['"', '\''])) {
            let is_new = !self.values.iter().any(|known| known == line);
            if line.len() >= SHORTEST && is_new && self.values.len() < MOST {
                self.values.push(line.to_owned());
            }
        }
    }
}

fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    TELLING.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_its_name_calls_a_secret_is_hidden() {
        let secrets = Secrets::of(
            [
                ("VPN_PASSWORD", "hunter22"),
                ("api_token", "\"hunter22-and-more\""),
                ("PIN_KEY", "123"),
                ("PEM_KEY", "-----BEGIN\nMIIEabcd\n"),
                ("ACESTREAM_ARGS", "--http-port 6878 --access-token abcdef --login=me@home --live-buffer 10"),
                ("LANG", "C.UTF-8"),
            ],
            ["--service-access-token", "tok-1234", "--bind-all", "--password=pw=d1"],
        );
        for (text, shown) in [
            ("nothing of interest: C.UTF-8, 6878, 123", "nothing of interest: C.UTF-8, 6878, 123"),
            ("with hunter22 twice hunter22", "with *** twice ***"),
            ("the longer one: hunter22-and-more", "the longer one: ***"),
            ("MIIEabcd", "***"),
            ("?token=abcdef&user=me@home", "?token=***&user=***"),
            ("tok-1234 pw=d1", "*** ***"),
        ] {
            assert_eq!(secrets.redact(text), shown, "{text}");
        }
        let many: Vec<_> = (0..1_000).map(|i| format!("secret-{i}")).collect();
        assert_eq!(Secrets::of(many.iter().map(|v| ("KEY", &**v)), []).values.len(), MOST);
    }
}
