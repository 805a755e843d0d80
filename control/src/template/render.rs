//! A template made ready for an architecture.

use std::fmt;

use super::{
    Architecture, Template, TemplateError, Value, Variant, is_secret_name, options,
    options::Written,
    placeholder::{self, Port, escaped},
    validate::JOPSIS_ARGS,
};

/// A command line and an environment, with the placeholders for ports left in.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// A reference, with a tag or a digest.
    pub(crate) image: String,
    /// In place of the image's own, where there is one.
    pub(crate) entrypoint: Option<Vec<String>>,
    /// Empty for the image's own.
    pub(crate) command: Vec<String>,
    /// By name.
    pub(crate) environment: Vec<(String, String)>,
    /// Ports beside that of HTTP that have to be found before this is filled in.
    pub(crate) wants: Wants,
    /// The directory in the container where the engine keeps its state, and
    /// below it its disk cache: absolute, where it is known.
    pub(crate) cache_dir: Option<String>,
}

/// Which ports a text asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    /// `{https_port}`
    pub(crate) https: bool,
    /// `{api_port}`
    pub(crate) api: bool,
    /// `{p2p_port}`
    pub(crate) p2p: bool,
}

/// What a variant is on one architecture.
struct Plan {
    image: Option<&'static str>,
    /// Begins the command line, or the variable.
    program: &'static [&'static str],
    /// Follows it.
    listen: &'static [&'static str],
    /// Options after that unless the template sets them; those without a value
    /// are flags.
    defaults: &'static [(&'static str, Option<&'static str>)],
    how: Passing,
    cache_dir: Option<&'static str>,
}

/// How options reach the engine.
enum Passing {
    Command,
    /// As one string in this variable.
    Variable(&'static str),
}

/// Every port is named that the engine has an option for, also where nobody
/// connects to it: engines that share a network namespace would otherwise take
/// each other's.
const LISTEN: &[&str] = &[
    "--bind-all",
    "--http-port",
    "{http_port}",
    "--https-port",
    "{https_port}",
    "--api-port",
    "{api_port}",
    "--port",
    "{p2p_port}",
];

/// Krinkuto11's image is nowhere started with `--https-port`.
const LISTEN_WITHOUT_TLS: &[&str] =
    &["--bind-all", "--http-port", "{http_port}", "--api-port", "{api_port}", "--port", "{p2p_port}"];

const ANDROID_DEFAULTS: &[(&str, Option<&str>)] = &[
    ("disable-sentry", None),
    ("log-stdout", None),
    ("disable-upnp", None),
    ("live-cache-type", Some("memory")),
    (MEMORY_CACHE, Some("104857600")),
];

const KRINKUTO11_DEFAULTS: &[(&str, Option<&str>)] = &[
    ("disable-sentry", None),
    ("log-stdout", None),
    ("disable-upnp", None),
    ("live-cache-type", Some("memory")),
    (MEMORY_CACHE, Some("104857600")),
    ("live-buffer", Some("30")),
];

/// Only set by us where the live cache is in memory.
const MEMORY_CACHE: &str = "live-mem-cache-size";

/// Where the builds for Android keep their state; it is memory.
const ANDROID_STATE: Option<&str> = Some("/dev/shm/.ACEStream");

impl Plan {
    fn of(variant: Variant, architecture: Architecture) -> Self {
        match (variant, architecture) {
            (Variant::Krinkuto11, architecture) => Self {
                image: Some(match architecture {
                    Architecture::Amd64 => "ghcr.io/krinkuto11/acestream:latest-amd64",
                    Architecture::Arm64 => "ghcr.io/krinkuto11/acestream:latest-arm64",
                    // The system we replace starts the arm64 image here, which
                    // no 32-bit processor runs.
                    Architecture::Arm32 => "ghcr.io/krinkuto11/acestream:latest-arm32",
                }),
                program: &["python", "main.py"],
                listen: LISTEN_WITHOUT_TLS,
                defaults: KRINKUTO11_DEFAULTS,
                how: Passing::Command,
                cache_dir: ANDROID_STATE,
            },
            (Variant::NanoAce, architecture) => Self {
                image: match architecture {
                    Architecture::Amd64 => Some("ghcr.io/krinkuto11/nano-ace:latest"),
                    Architecture::Arm64 | Architecture::Arm32 => None,
                },
                program: &["/acestream/acestreamengine", "--client-console"],
                listen: LISTEN,
                defaults: &[],
                how: Passing::Command,
                cache_dir: Some("/root/.ACEStream"),
            },
            (Variant::Jopsis, Architecture::Amd64) => Self {
                image: Some("jopsis/acestream:x64"),
                program: &["--client-console"],
                listen: LISTEN,
                defaults: &[],
                how: Passing::Variable(JOPSIS_ARGS),
                cache_dir: Some("/acestream/.ACEStream"),
            },
            (Variant::Jopsis, Architecture::Arm64) => Self::jopsis_arm("jopsis/acestream:arm64-v3.2.13"),
            (Variant::Jopsis, Architecture::Arm32) => Self::jopsis_arm("jopsis/acestream:arm32-v3.2.13"),
            (Variant::Custom, _) => Self {
                image: None,
                program: &[],
                listen: &[],
                defaults: &[],
                how: Passing::Command,
                cache_dir: None,
            },
        }
    }

    const fn jopsis_arm(image: &'static str) -> Self {
        Self {
            image: Some(image),
            program: &["python", "main.py"],
            listen: LISTEN,
            defaults: ANDROID_DEFAULTS,
            how: Passing::Command,
            cache_dir: ANDROID_STATE,
        }
    }
}

impl Template {
    /// The image, command line and environment for an architecture.
    ///
    /// # Errors
    /// When the variant has no image for it and the template names none, and
    /// with the first fault when the template is not valid.
    pub(crate) fn render(&self, architecture: Architecture) -> Result<Rendered, TemplateError> {
        if let Some(fault) = self.validate().err().and_then(|faults| faults.into_iter().next()) {
            return Err(fault);
        }
        let plan = Plan::of(self.variant, architecture);
        let Some(image) = self.image.clone().or_else(|| plan.image.map(str::to_owned)) else {
            let wrong = format!("the variant {} has none for {}", self.variant.word(), architecture.word());
            return Err(TemplateError::new("image", wrong, "a reference to an image for this architecture"));
        };
        let mut words: Vec<String> =
            plan.program.iter().chain(plan.listen).copied().map(str::to_owned).collect();
        words.extend(self.command.iter().cloned());
        self.add_defaults(plan.defaults, &mut words);
        for (name, value) in &self.parameters {
            match options::write(name, value)? {
                Written::Absent => {}
                Written::Alone => words.push(format!("--{name}")),
                Written::With(value) => words.extend([format!("--{name}"), escaped(&value)]),
            }
        }
        let mut environment = self.environment();
        let command = match plan.how {
            Passing::Command => words,
            Passing::Variable(name) => {
                environment.push((name.to_owned(), words.join(" ")));
                environment.sort();
                Vec::new()
            }
        };
        let mut rendered = Rendered {
            image,
            entrypoint: self.entrypoint.clone(),
            command,
            environment,
            wants: Wants::default(),
            cache_dir: self.cache_dir(plan.cache_dir),
        };
        rendered.wants = rendered.find_wants()?;
        Ok(rendered)
    }

    fn add_defaults(&self, defaults: &[(&str, Option<&str>)], words: &mut Vec<String>) {
        let in_memory = match self.parameters.get("live-cache-type") {
            Some(Value::Text(kind)) => kind == "memory",
            Some(Value::Flag(_) | Value::Number(_)) | None => true,
        };
        for (name, value) in defaults {
            let unused = *name == MEMORY_CACHE && !in_memory;
            if unused || self.parameters.contains_key(*name) {
                continue;
            }
            words.push(format!("--{name}"));
            words.extend(value.map(str::to_owned));
        }
    }

    /// Secrets are no texts with placeholders.
    fn environment(&self) -> Vec<(String, String)> {
        let variables = self.environment.iter();
        variables
            .map(|(name, value)| {
                let value = if is_secret_name(name) { escaped(value) } else { value.clone() };
                (name.clone(), value)
            })
            .collect()
    }

    fn cache_dir(&self, usual: Option<&str>) -> Option<String> {
        let given = ["cache-dir", "state-dir"].iter().find_map(|name| match self.parameters.get(*name) {
            Some(Value::Text(path)) => Some(path.clone()),
            Some(Value::Flag(_) | Value::Number(_)) | None => None,
        });
        given.or_else(|| usual.map(str::to_owned))
    }
}

impl Rendered {
    fn find_wants(&self) -> Result<Wants, TemplateError> {
        let words = self.command.iter().chain(self.entrypoint.iter().flatten());
        let mut wants = Wants::default();
        for text in words.chain(self.environment.iter().map(|(_, value)| value)) {
            placeholder::asks(text, |port| match port {
                Port::Http => {}
                Port::Https => wants.https = true,
                Port::Api => wants.api = true,
                Port::P2p => wants.p2p = true,
            })?;
        }
        Ok(wants)
    }
}

/// Without the words themselves: secrets are among them.
impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<&str> = self.environment.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Rendered")
            .field("image", &self.image)
            .field("words", &self.command.len())
            .field("variables", &variables)
            .field("wants", &self.wants)
            .field("cache_dir", &self.cache_dir)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
