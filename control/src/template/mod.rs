//! What an engine runs: image, command line and environment.
//!
//! In reading order: a [`Template`] is one way to run an engine, as people
//! write it; `validate` says what is wrong with one, `options` which options an
//! engine has and `image` what a reference to an image looks like; `render`
//! makes it ready for an architecture, with `placeholder`s where ports go;
//! `store` holds all templates, `exchange` reads and writes them as JSON, also
//! those of the system that Millrace replaces, and `file` keeps them.

mod exchange;
mod file;
mod image;
mod options;
mod placeholder;
mod render;
mod store;
mod validate;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

pub(crate) use {
    file::write_atomically,
    render::{Rendered, Wants},
    store::{Kind, Saved, StoreError, Templates},
};

/// What stands for a secret wherever it is shown.
const HIDDEN: &str = "***";

/// One way to run an engine.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Template {
    /// `[a-z0-9][a-z0-9._-]{0,62}`
    pub(crate) name: String,
    /// How the image wants to be started.
    pub(crate) variant: Variant,
    /// A reference, with a tag or a digest; without one the variant's own for
    /// the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    /// By the engine's option without its dashes. They come after what the
    /// variant itself sets, and replace it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) parameters: BTreeMap<String, Value>,
    /// May hold placeholders, except in secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) environment: BTreeMap<String, String>,
    /// In place of the image's own; may hold placeholders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) entrypoint: Option<Vec<String>>,
    /// Of the variant `custom` alone: the command line that `parameters` are
    /// appended to; may hold placeholders. Without words and parameters the
    /// image's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) command: Vec<String>,
    /// The port inside the container that the engine's HTTP API is at, for
    /// images that cannot be told one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) container_port: Option<u16>,
}

/// How an image wants to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Variant {
    /// `ghcr.io/krinkuto11/acestream`: `python main.py` and options.
    Krinkuto11,
    /// `ghcr.io/krinkuto11/nano-ace`: the engine itself and options; amd64 only.
    NanoAce,
    /// `jopsis/acestream`: on amd64 the options are one string in
    /// `ACESTREAM_ARGS`, on arm they follow `python main.py`.
    Jopsis,
    /// Any other image.
    Custom,
}

impl Variant {
    /// The word for labels and JSON.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Krinkuto11 => "krinkuto11",
            Self::NanoAce => "nano-ace",
            Self::Jopsis => "jopsis",
            Self::Custom => "custom",
        }
    }
}

/// The processors that there are images for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    /// 64 bits, Intel and AMD.
    Amd64,
    /// 64 bits, ARM.
    Arm64,
    /// 32 bits, ARM.
    Arm32,
}

impl Architecture {
    /// From what Docker says of itself or of an image.
    pub(crate) fn from_docker(word: &str) -> Option<Self> {
        match word {
            "amd64" | "x86_64" => Some(Self::Amd64),
            "arm64" | "aarch64" => Some(Self::Arm64),
            "arm" | "armv7l" => Some(Self::Arm32),
            _ => None,
        }
    }

    /// The word for messages.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Arm32 => "arm32",
        }
    }
}

/// A parameter's value as JSON has it; which of them an option takes, and in
/// which range, stands in the table of options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected true, false, a whole number or a text as a parameter's value")]
pub(crate) enum Value {
    /// Of a flag: given or left out.
    Flag(bool),
    /// A whole number, or bytes.
    Number(i64),
    /// A text, a path, or bytes with their unit: `100MiB`.
    Text(String),
}

/// One thing that is wrong with a template; never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{field}: {wrong}; allowed: {allowed}")]
pub(crate) struct TemplateError {
    /// Where: `parameters.live-buffer`.
    pub(crate) field: String,
    /// What is wrong there.
    pub(crate) wrong: String,
    /// What would be right.
    pub(crate) allowed: String,
}

impl TemplateError {
    fn new(field: impl Into<String>, wrong: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self { field: field.into(), wrong: wrong.into(), allowed: allowed.into() }
    }
}

impl Template {
    /// The variant's word, for labels.
    pub(crate) fn variant_word(&self) -> &'static str {
        self.variant.word()
    }

    /// Itself with `***` for every secret, for whatever people or logs see.
    pub(crate) fn redacted(&self) -> Self {
        let mut shown = self.clone();
        for (name, value) in &mut shown.parameters {
            if is_secret_option(name) {
                *value = Value::Text(HIDDEN.into());
            }
        }
        for (name, value) in &mut shown.environment {
            if is_secret_variable(name, value) {
                *value = HIDDEN.into();
            }
        }
        shown
    }

    /// Takes the secrets that are only hinted at by `***` from `known`, the
    /// template that this one replaces. Those that it has not stay, and are
    /// refused by `validate`.
    fn reveal(&mut self, known: Option<&Self>) {
        for (name, value) in &mut self.parameters {
            let old = known.and_then(|known| known.parameters.get(name));
            if let Some(old) = old.filter(|_| is_secret_option(name) && is_hidden(value)) {
                *value = old.clone();
            }
        }
        for (name, value) in &mut self.environment {
            let old = known.and_then(|known| known.environment.get(name));
            if let Some(old) = old.filter(|old| is_secret_variable(name, old) && value == HIDDEN) {
                value.clone_from(old);
            }
        }
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, variant, image, parameters, environment, entrypoint, command, container_port } =
            &self.redacted();
        f.debug_struct("Template")
            .field("name", name)
            .field("variant", variant)
            .field("image", image)
            .field("parameters", parameters)
            .field("environment", environment)
            .field("entrypoint", entrypoint)
            .field("command", command)
            .field("container_port", container_port)
            .finish()
    }
}

fn is_hidden(value: &Value) -> bool {
    matches!(value, Value::Text(text) if text == HIDDEN)
}

fn is_secret_option(name: &str) -> bool {
    options::SECRET.contains(&name)
}

/// By its name, or because it holds a command line with a secret option.
fn is_secret_variable(name: &str, value: &str) -> bool {
    is_secret_name(name) || names_secret_option(value)
}

fn is_secret_name(variable: &str) -> bool {
    let upper = variable.to_ascii_uppercase();
    ["TOKEN", "KEY", "SECRET", "PASSWORD"].iter().any(|word| upper.contains(word))
}

fn names_secret_option(text: &str) -> bool {
    options::SECRET.iter().any(|name| text.contains(&format!("--{name}")))
}

/// The beginning of a foreign text, for messages.
fn shown(text: &str) -> String {
    const SHOWN: usize = 40;
    let mut begin: String = text.chars().take(SHOWN).collect();
    if begin.len() < text.len() {
        begin.push('…');
    }
    format!("{begin:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_s_words_name_the_architecture() {
        for (word, architecture) in [
            ("amd64", Some(Architecture::Amd64)),
            ("x86_64", Some(Architecture::Amd64)),
            ("arm64", Some(Architecture::Arm64)),
            ("aarch64", Some(Architecture::Arm64)),
            ("arm", Some(Architecture::Arm32)),
            ("armv7l", Some(Architecture::Arm32)),
            ("riscv64", None),
            ("", None),
        ] {
            assert_eq!(Architecture::from_docker(word), architecture, "{word}");
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        let template: Template = serde_json::from_value(serde_json::json!({
            "name": "a", "variant": "custom", "image": "x",
            "parameters": {
                "access-token": "hunter1", "service-access-token": "hunter2", "password": 1234567,
                "log-file": "/seen1",
            },
            "environment": {
                "MY_TOKEN": "hunter3", "api_key": "hunter4", "SECRET": "hunter5", "Password1": "hunter6",
                "ARGS": "--access-token hunter7", "HOME": "/seen2",
            },
        }))
        .unwrap();
        let json = serde_json::to_string(&template.redacted()).unwrap();
        for text in [json, format!("{template:?}"), format!("{template:#?}")] {
            assert!(!text.contains("hunter") && !text.contains("1234567"), "{text}");
            assert!(text.contains("/seen1") && text.contains("/seen2"), "{text}");
            assert_eq!(text.matches(HIDDEN).count(), 8, "{text}");
        }
    }

    #[test]
    fn the_word_of_a_variant_is_its_word_in_json() {
        for variant in [Variant::Krinkuto11, Variant::NanoAce, Variant::Jopsis, Variant::Custom] {
            assert_eq!(serde_json::to_value(variant).unwrap(), variant.word());
        }
    }
}
