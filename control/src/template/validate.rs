//! What may be wrong with a template.

use super::{
    HIDDEN, Template, TemplateError, Value, Variant, image, is_secret_name, names_secret_option, options,
    options::{Written, is_plain},
    placeholder::{self, Port},
    shown,
};

/// Parameters, and as many variables, of one template.
const ENTRIES: usize = 64;
/// Words of a command line, and of an entrypoint.
const WORDS: usize = 256;
/// All texts of a template together, in bytes: a hundred of them are read and
/// written as one file.
const TEMPLATE: usize = 64 << 10;
/// Characters of a variable's name, and of an image's reference.
const NAME: usize = 512;
/// Faults told at once; nobody reads more.
pub(super) const FAULTS: usize = 32;

/// The variable that jopsis' image takes its options from.
pub(super) const JOPSIS_ARGS: &str = "ACESTREAM_ARGS";

impl Template {
    /// Finds all that is wrong at once, at most 32 faults.
    ///
    /// # Errors
    /// When there is anything.
    pub(crate) fn validate(&self) -> Result<(), Vec<TemplateError>> {
        let mut faults = Faults(Vec::new());
        check_name(&self.name, &mut faults);
        if TEMPLATE < self.text_bytes() {
            faults.add("template", "has more than 64 KiB of text", "texts of 64 KiB together");
        }
        self.check_image(&mut faults);
        self.check_parameters(&mut faults);
        self.check_environment(&mut faults);
        self.check_command(&mut faults);
        self.check_port(&mut faults);
        if faults.0.is_empty() { Ok(()) } else { Err(faults.0) }
    }

    fn text_bytes(&self) -> usize {
        let parameters = self.parameters.iter().map(|(name, value)| match value {
            Value::Text(text) => name.len() + text.len(),
            Value::Flag(_) | Value::Number(_) => name.len(),
        });
        let environment = self.environment.iter().map(|(name, value)| name.len() + value.len());
        let words = self.command.iter().chain(self.entrypoint.iter().flatten()).map(String::len);
        parameters.chain(environment).chain(words).sum()
    }

    fn check_image(&self, faults: &mut Faults) {
        let allowed = "[registry[:port]/]path[:tag][@sha256:64 digits], such as jopsis/acestream:x64";
        match &self.image {
            Some(image) if NAME < image.len() => faults.add("image", "is too long", allowed),
            Some(image) => {
                if let Err(why) = image::check(image) {
                    faults.add("image", format!("{} is no image's reference: {why}", shown(image)), allowed);
                }
            }
            None if self.variant == Variant::Custom => {
                faults.add("image", "is missing, and the variant custom has none of its own", allowed);
            }
            None => {}
        }
    }

    fn check_parameters(&self, faults: &mut Faults) {
        if ENTRIES < self.parameters.len() {
            return faults.add("parameters", format!("are {}", self.parameters.len()), "64 parameters");
        }
        for (name, value) in &self.parameters {
            match options::write(name, value) {
                Err(fault) => faults.push(fault),
                Ok(Written::With(word)) if self.variant == Variant::Jopsis && !is_one_word(&word) => faults
                    .add(
                        format!("parameters.{name}"),
                        "cannot be one word of the one string that this image splits",
                        "letters, digits and . _ / : @ % + = , -; no blanks",
                    ),
                Ok(_) => {}
            }
        }
    }

    fn check_environment(&self, faults: &mut Faults) {
        if ENTRIES < self.environment.len() {
            return faults.add(
                "environment",
                format!("has {} variables", self.environment.len()),
                "64 variables",
            );
        }
        for (name, value) in &self.environment {
            if !is_variable(name) {
                let allowed = "names of letters, digits and _ that do not begin with a digit";
                faults.add("environment", format!("{} is no variable's name", shown(name)), allowed);
                continue;
            }
            let field = format!("environment.{name}");
            if self.variant == Variant::Jopsis && name == JOPSIS_ARGS {
                faults.add(field, "Millrace sets this variable itself", "parameters, which go into it");
            } else if !is_plain(value) {
                faults.add(
                    field,
                    "is too long or has control characters",
                    "4,096 bytes without control characters",
                );
            } else if value == HIDDEN {
                let allowed = "the secret itself, where no template of this name has it";
                faults.add(field, "*** stands for no known secret", allowed);
            } else if !is_secret_name(name) {
                self.check_placeholders(&field, value, faults);
            }
        }
    }

    fn check_command(&self, faults: &mut Faults) {
        if self.variant != Variant::Custom && !self.command.is_empty() {
            let wrong = format!("the variant {} has its own", self.variant.word());
            faults.add("command", wrong, "no command, or the variant custom");
        }
        if self.entrypoint.as_ref().is_some_and(Vec::is_empty) {
            faults.add("entrypoint", "has no words", "at least one word, or null for the image's own");
        }
        for (field, words) in [("entrypoint", self.entrypoint.as_ref()), ("command", Some(&self.command))] {
            let words = words.map_or(&[][..], Vec::as_slice);
            if WORDS < words.len() {
                faults.add(field, format!("has {} words", words.len()), "256 words");
                continue;
            }
            for (at, word) in words.iter().enumerate() {
                let field = format!("{field}[{at}]");
                if !is_plain(word) {
                    let allowed = "4,096 bytes without control characters";
                    faults.add(field, "is too long or has control characters", allowed);
                } else if names_secret_option(word) {
                    let allowed = "secret options as parameters, where they are kept from view";
                    faults.add(field, "holds a secret option", allowed);
                } else {
                    self.check_placeholders(&field, word, faults);
                }
            }
        }
    }

    fn check_placeholders(&self, field: &str, text: &str, faults: &mut Faults) {
        if let Err(fault) = placeholder::asks(text, |_| {}) {
            faults.push(TemplateError { field: field.into(), ..fault });
        }
    }

    fn check_port(&self, faults: &mut Faults) {
        let allowed = "1 to 65535";
        match self.container_port {
            Some(0) => faults.add("container_port", "is 0", allowed),
            None if self.variant == Variant::Custom && !self.asks_for_http() => {
                let wrong = "is missing, and nothing of the command line tells the engine where to listen";
                faults.add(
                    "container_port",
                    wrong,
                    "a port, or {http_port} on the command line or in a variable",
                );
            }
            Some(_) | None => {}
        }
    }

    /// Whether the engine is told its port.
    fn asks_for_http(&self) -> bool {
        let words = self.command.iter().chain(self.entrypoint.iter().flatten());
        let variables =
            self.environment.iter().filter(|(name, _)| !is_secret_name(name)).map(|(_, value)| value);
        let mut asks = false;
        for text in words.chain(variables) {
            // What is wrong with a text is told where it stands.
            placeholder::asks(text, |port| asks |= port == Port::Http).ok();
        }
        asks
    }
}

/// What was found so far.
struct Faults(Vec<TemplateError>);

impl Faults {
    fn push(&mut self, fault: TemplateError) {
        if self.0.len() < FAULTS {
            self.0.push(fault);
        }
    }

    fn add(&mut self, field: impl Into<String>, wrong: impl Into<String>, allowed: &str) {
        self.push(TemplateError::new(field, wrong, allowed));
    }
}

/// Whether a template may have this name: `[a-z0-9][a-z0-9._-]{0,62}`.
pub(super) fn is_name(name: &str) -> bool {
    let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 63
        && name.bytes().next().is_some_and(first)
        && name.bytes().all(|b| first(b) || matches!(b, b'.' | b'_' | b'-'))
}

fn check_name(name: &str, faults: &mut Faults) {
    if !is_name(name) {
        faults.push(bad_name(name));
    }
}

/// What is said of a name that no template may have.
pub(super) fn bad_name(name: &str) -> TemplateError {
    let allowed = "1 to 63 characters from a-z, 0-9, . _ - that begin with a letter or a digit";
    TemplateError::new("name", format!("is {}", shown(name)), allowed)
}

fn is_variable(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    name.len() <= NAME
        && name.bytes().next().is_some_and(letter)
        && name.bytes().all(|b| letter(b) || b.is_ascii_digit())
}

/// Whether a shell that splits a string leaves this alone.
fn is_one_word(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/:@%+=,-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(more: serde_json::Value) -> Template {
        let mut whole = json!({ "name": "mine", "variant": "krinkuto11" });
        whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    fn many(count: usize, name: impl Fn(usize) -> String) -> serde_json::Value {
        (0..count).map(|at| (name(at), json!("x"))).collect::<serde_json::Map<_, _>>().into()
    }

    #[test]
    fn good_templates_have_no_faults() {
        let custom = |more: serde_json::Value| {
            let mut whole = json!({ "variant": "custom", "image": "x" });
            whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            whole
        };
        for good in [
            json!({}),
            json!({ "name": "0" }),
            json!({ "name": format!("a{}", "._-".repeat(20)) }),
            json!({ "variant": "nano-ace", "image": "a/b@sha256:".to_owned() + &"0".repeat(64) }),
            json!({ "environment": many(64, |at| format!("_V{at}")) }),
            json!({ "environment": { "A": "{{{http_port}", "SECRET": "{anything", "B": "" } }),
            json!({ "variant": "jopsis", "parameters": { "access-token": "a@b", "log-file": "/a/b.log" } }),
            json!({ "variant": "nano-ace", "parameters": { "access-token": "two words" } }),
            json!({ "variant": "nano-ace", "environment": { "ACESTREAM_ARGS": "x" } }),
            json!({ "entrypoint": ["/bin/sh"], "container_port": 1 }),
            custom(json!({ "container_port": 6878 })),
            custom(json!({ "command": ["--port={http_port}"] })),
            custom(json!({ "entrypoint": ["--port={http_port}"] })),
            custom(json!({ "environment": { "PORT": "{http_port}" } })),
            custom(json!({ "container_port": 6878, "command": vec![""; 256] })),
        ] {
            assert_eq!(template(good.clone()).validate(), Ok(()), "{good}");
        }
    }

    #[test]
    fn each_fault_is_told_at_its_field() {
        let long = "x".repeat(4_097);
        let custom = |field: &str, value: serde_json::Value| json!({ "variant": "custom", "image": "x", "container_port": 1, field: value });
        let port = "container_port: is missing";
        for (bad, fault) in [
            (json!({ "name": "" }), "name: is \"\""),
            (json!({ "name": "-a" }), "name: is \"-a\""),
            (json!({ "name": "A" }), "name: is \"A\""),
            (json!({ "name": "a b" }), "name: is \"a b\""),
            (json!({ "name": "a".repeat(64) }), "name: is \"aaa"),
            (json!({ "image": "" }), "image: \"\" is no image's reference: the name is missing"),
            (json!({ "image": "a b" }), "image: \"a b\" is no image's reference: between slashes"),
            (json!({ "image": "a".repeat(513) }), "image: is too long"),
            (json!({ "variant": "custom", "container_port": 1 }), "image: is missing"),
            (
                json!({ "parameters": { "live-buffer": 0 } }),
                "parameters.live-buffer: is 0; allowed: a whole number",
            ),
            (json!({ "parameters": { "http-port": 6878 } }), "parameters.http-port: Millrace sets"),
            (json!({ "parameters": { "bind-all": true } }), "parameters.bind-all: Millrace sets"),
            (json!({ "parameters": { "nonsense": 1 } }), "parameters.nonsense: there is no such"),
            (json!({ "parameters": many(65, |at| format!("p{at}")) }), "parameters: are 65"),
            (
                json!({ "parameters": { "access-token": "***" } }),
                "parameters.access-token: *** stands for no",
            ),
            (
                json!({ "variant": "jopsis", "parameters": { "login": "a b" } }),
                "parameters.login: cannot be one word",
            ),
            (
                json!({ "variant": "jopsis", "parameters": { "login": "$A" } }),
                "parameters.login: cannot be one word",
            ),
            (
                json!({ "variant": "jopsis", "environment": { "ACESTREAM_ARGS": "" } }),
                "environment.ACESTREAM_ARGS: Millr",
            ),
            (json!({ "environment": { "": "" } }), "environment: \"\" is no variable's name"),
            (json!({ "environment": { "1A": "" } }), "environment: \"1A\" is no variable's name"),
            (json!({ "environment": { "A=B": "" } }), "environment: \"A=B\" is no variable's name"),
            (json!({ "environment": { "A": "a\nb" } }), "environment.A: is too long or has control"),
            (json!({ "environment": { "A": long } }), "environment.A: is too long or has control"),
            (
                json!({ "environment": { "A": "{port}" } }),
                "environment.A: a brace begins no known placeholder",
            ),
            (json!({ "environment": { "A_KEY": "***" } }), "environment.A_KEY: *** stands for no"),
            (json!({ "environment": many(65, |at| format!("V{at}")) }), "environment: has 65 variables"),
            (json!({ "command": ["x"] }), "command: the variant krinkuto11 has its own"),
            (json!({ "entrypoint": [] }), "entrypoint: has no words"),
            (json!({ "entrypoint": ["a", "{x}"] }), "entrypoint[1]: a brace begins no known placeholder"),
            (json!({ "container_port": 0 }), "container_port: is 0"),
            (custom("command", json!(["a", "b\0"])), "command[1]: is too long or has control"),
            (custom("command", json!([long])), "command[0]: is too long or has control"),
            (custom("command", json!(["{http_port"])), "command[0]: a brace begins"),
            (custom("command", json!(["--access-token", "x"])), "command[0]: holds a secret option"),
            (custom("command", json!(vec!["x"; 257])), "command: has 257 words"),
            (custom("command", json!(vec![&long[1..]; 17])), "template: has more than 64 KiB"),
            (json!({ "variant": "custom", "image": "x" }), port),
            (json!({ "variant": "custom", "image": "x", "command": ["{{http_port}"] }), port),
            (json!({ "variant": "custom", "image": "x", "environment": { "KEY": "{http_port}" } }), port),
        ] {
            let faults = template(bad.clone()).validate().unwrap_err();
            assert_eq!(faults.len(), 1, "{bad}: {faults:?}");
            assert!(faults[0].to_string().starts_with(fault), "{bad}: {}", faults[0]);
        }
    }

    #[test]
    fn all_faults_are_told_at_once_in_order_and_up_to_a_bound() {
        let bad = template(json!({
            "name": "No", "image": "N O", "parameters": { "live-buffer": 0, "port": 1 },
            "environment": { "A": "\n" }, "command": ["x"], "container_port": 0,
        }));
        let fields: Vec<_> = bad.validate().unwrap_err().into_iter().map(|fault| fault.field).collect();
        let expected = [
            "name",
            "image",
            "parameters.live-buffer",
            "parameters.port",
            "environment.A",
            "command",
            "container_port",
        ];
        assert_eq!(fields, expected);
        let flood = template(json!({ "parameters": many(64, |at| format!("p{at}")) }));
        assert_eq!(flood.validate().unwrap_err().len(), 32);
    }

    #[test]
    fn a_fault_never_shows_a_secret() {
        let bad = template(json!({
            "variant": "jopsis",
            "parameters": { "access-token": "hunter 1", "service-access-token": "@hunter" },
            "environment": { "TOKEN": "hunter\n", "X": "--password hunter {hunter}" },
        }));
        let faults = bad.validate().unwrap_err();
        assert_eq!(faults.len(), 4, "{faults:?}");
        assert!(!format!("{faults:?}").contains("hunter"), "{faults:?}");
    }
}
