//! Templates as JSON: ours, and those of the system that Millrace replaces.
//!
//! Ours is `{"version": 1, "active": NAME, "templates": [TEMPLATE, …]}`, also in
//! the file; secrets are in it. That of the system before is one
//! `{"name": …, "config": {"platform": …, "parameters": [{"name": "--live-buffer",
//! "type": "int", "value": 10, "enabled": true}, …]}}` for each of its slots.

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::{
    Saved, StoreError, Template, TemplateError, Templates, Value, Variant, options, shown, store::MOST,
    validate::FAULTS,
};

/// Notes of what was left out; later ones are not made.
const NOTES: usize = 200;
/// The versions that the image of a variant already has.
const USUAL_AMD64: &str = "3.2.11-py3.10";
const USUAL_ARM: &str = "3.2.13";

/// What an import did. Which template is active is never changed by one: that
/// would replace all engines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ImportReport {
    /// Names that are new.
    pub(crate) created: Vec<String>,
    /// Names whose template was another one.
    pub(crate) replaced: Vec<String>,
    /// Names whose template was the same.
    pub(crate) unchanged: Vec<String>,
    /// What could not be taken over, and needs not: without effect on the rest.
    pub(crate) left_out: Vec<String>,
}

impl Template {
    /// One from JSON; what is valid in it is for [`Templates::put`] to say.
    ///
    /// # Errors
    /// When it has not the shape of one.
    pub(crate) fn read(document: Json) -> Result<Self, StoreError> {
        serde_json::from_value(document)
            .map_err(|error| StoreError::Invalid(vec![misshapen("template", &error)]))
    }
}

impl Templates {
    /// The own ones and which is active, with their secrets.
    pub(crate) fn export(&self) -> Json {
        let templates: Vec<&Template> = self.own().collect();
        json!({ "version": 1, "active": self.active().name, "templates": templates })
    }

    /// [`Self::export`] for the file.
    pub(crate) fn to_json_bytes(&self) -> Vec<u8> {
        format!("{:#}\n", self.export()).into_bytes()
    }

    /// Takes over what [`Self::export`] or the system before gave: all of it, or
    /// nothing. A template in place of one of the same name keeps that one's
    /// secrets where it has `***`.
    ///
    /// # Errors
    /// With up to 32 faults, each with its place.
    pub(crate) fn import(&mut self, document: Json) -> Result<ImportReport, StoreError> {
        let entries = entries(document)?;
        let mut report = ImportReport::default();
        let mut imported = self.clone();
        let mut names = Vec::new();
        let mut faults = Vec::new();
        for (at, entry) in entries.into_iter().enumerate() {
            let place = format!("templates[{at}]");
            let template = match read(entry, &place, &mut report.left_out) {
                Ok(template) => template,
                Err(read) => {
                    faults.extend(read);
                    continue;
                }
            };
            let name = template.name.clone();
            if names.contains(&name) {
                let wrong = format!("{} is there twice", shown(&name));
                faults.push(TemplateError::new(format!("{place}.name"), wrong, "one template of each name"));
                continue;
            }
            match imported.put(template) {
                Ok(Saved::Created) => report.created.push(name.clone()),
                Ok(Saved::Replaced) => report.replaced.push(name.clone()),
                Ok(Saved::Unchanged) => report.unchanged.push(name.clone()),
                Err(StoreError::Invalid(found)) => faults.extend(
                    found
                        .into_iter()
                        .map(|fault| TemplateError { field: format!("{place}.{}", fault.field), ..fault }),
                ),
                Err(other) => return Err(other),
            }
            names.push(name);
        }
        if !faults.is_empty() {
            faults.truncate(FAULTS);
            return Err(StoreError::Invalid(faults));
        }
        *self = imported;
        Ok(report)
    }
}

/// What a document holds for templates, at most as many as there may be.
fn entries(document: Json) -> Result<Vec<Json>, StoreError> {
    let entries = match document {
        Json::Array(entries) => entries,
        Json::Object(mut whole) => match whole.remove("templates") {
            Some(Json::Array(entries)) => match whole.get("version") {
                Some(version) if *version != 1 => {
                    return Err(StoreError::Document("it was exported by a newer version".into()));
                }
                _ => entries,
            },
            Some(_) => return Err(StoreError::Document("\"templates\" is no list".into())),
            None => vec![Json::Object(whole)],
        },
        _ => return Err(StoreError::Document("it is neither a template nor a list of templates".into())),
    };
    match entries.len() {
        0 => Err(StoreError::Document("it holds no template".into())),
        1..=MOST => Ok(entries),
        count => Err(StoreError::Document(format!("it holds {count} templates, and {MOST} are possible"))),
    }
}

/// One template, ours or one of the system before.
fn read(entry: Json, place: &str, left_out: &mut Vec<String>) -> Result<Template, Vec<TemplateError>> {
    let theirs = entry.get("config").is_some() || entry.get("parameters").is_some_and(Json::is_array);
    match entry {
        Json::Object(entry) if theirs => Theirs { place, left_out, faults: Vec::new() }.read(entry),
        entry => serde_json::from_value(entry).map_err(|error| vec![misshapen(place, &error)]),
    }
}

/// Without what was found: it might be a secret.
pub(super) fn misshapen(place: &str, error: &serde_json::Error) -> TemplateError {
    let text = error.to_string();
    let wrong = match text.rfind(", expected ") {
        Some(at) if text.starts_with("invalid ") => format!("has something of another kind{}", &text[at..]),
        _ => text.chars().take(200).collect(),
    };
    TemplateError::new(place, wrong, "the fields of a template, each of its kind")
}

/// Reads a template of the system before.
struct Theirs<'a> {
    place: &'a str,
    left_out: &'a mut Vec<String>,
    faults: Vec<TemplateError>,
}

impl Theirs<'_> {
    fn read(mut self, mut entry: Map<String, Json>) -> Result<Template, Vec<TemplateError>> {
        let name = entry.remove("name");
        let name = slug(name.as_ref().and_then(Json::as_str).unwrap_or_default());
        let mut config = match entry.remove("config") {
            Some(Json::Object(config)) => config,
            None => entry,
            Some(_) => {
                return Err(vec![TemplateError::new(self.place, "\"config\" is no object", "an object")]);
            }
        };
        let (variant, image) = self.variant(&mut config);
        let parameters = match config.remove("parameters") {
            Some(Json::Array(parameters)) => parameters,
            None | Some(Json::Null) => Vec::new(),
            Some(_) => {
                self.fault("parameters", "is no list", "a list of parameters");
                Vec::new()
            }
        };
        let mut template = Template {
            name,
            variant,
            image,
            parameters: Default::default(),
            environment: Default::default(),
            entrypoint: None,
            command: Vec::new(),
            container_port: None,
        };
        for parameter in parameters {
            if let Some((name, value)) = self.parameter(parameter) {
                template.parameters.insert(name, value);
            }
        }
        // They have no say in what a template is here.
        for known in ["enabled", "name", "icon", "slot_id"] {
            config.remove(known);
        }
        for (field, value) in config {
            let unset = matches!(value, Json::Null | Json::Bool(false));
            if !unset {
                self.leave_out(&field, "is no part of a template");
            }
        }
        if self.faults.is_empty() { Ok(template) } else { Err(self.faults) }
    }

    /// Its images by processor and version, as it chose them.
    fn variant(&mut self, config: &mut Map<String, Json>) -> (Variant, Option<String>) {
        let mut text = |field| match config.remove(field) {
            Some(Json::String(text)) => Some(text),
            _ => None,
        };
        let (platform, amd64, arm) = (text("platform"), text("amd64_version"), text("arm_version"));
        match platform.as_deref().unwrap_or("amd64") {
            "amd64" => {
                let other = amd64.filter(|version| version != USUAL_AMD64);
                (Variant::NanoAce, other.map(|version| format!("ghcr.io/krinkuto11/nano-ace:{version}")))
            }
            arm_bits @ ("arm32" | "arm64") => {
                let other = arm.filter(|version| version != USUAL_ARM);
                (Variant::Jopsis, other.map(|version| format!("jopsis/acestream:{arm_bits}-v{version}")))
            }
            other => {
                let wrong = format!("is {}", shown(other));
                self.fault("platform", wrong, "amd64, arm32 or arm64");
                (Variant::NanoAce, None)
            }
        }
    }

    fn parameter(&mut self, parameter: Json) -> Option<(String, Value)> {
        let text = |field: &str| parameter.get(field).and_then(Json::as_str);
        let Some(name) = text("name") else {
            self.fault("parameters", "has one without a name", "{name, type, value, enabled}");
            return None;
        };
        let name: String = name.trim_start_matches('-').chars().take(64).collect();
        if parameter.get("enabled").is_some_and(|enabled| enabled == false) {
            return None;
        }
        if options::SET_BY_US.contains(&name.as_str()) {
            self.leave_out(&name, "is set by Millrace itself");
            return None;
        }
        let kind = text("type").unwrap_or_default();
        let value = match (kind, parameter.get("value")) {
            // The engine's own, written as only a shell would read it.
            ("path", Some(Json::String(path))) if path == "~/.ACEStream" => {
                self.leave_out(&name, "is what it is without being set");
                return None;
            }
            ("flag", Some(Json::Bool(flag))) => Some(Value::Flag(*flag)),
            ("flag", None | Some(Json::Null)) => Some(Value::Flag(true)),
            ("int" | "bytes", Some(Json::Number(number))) => number.as_i64().map(Value::Number),
            ("int" | "bytes", Some(Json::String(number))) => number.trim().parse().ok().map(Value::Number),
            ("string" | "str" | "path", Some(Json::String(text))) => Some(Value::Text(text.clone())),
            _ => None,
        };
        if value.is_none() {
            self.fault(
                &format!("parameters.{name}"),
                "has a value that is not of its type",
                "flag with true or false, int and bytes with a whole number, string and path with a text",
            );
        }
        value.map(|value| (name, value))
    }

    fn fault(&mut self, field: &str, wrong: impl Into<String>, allowed: &str) {
        if self.faults.len() < FAULTS {
            self.faults.push(TemplateError::new(format!("{}.{field}", self.place), wrong, allowed));
        }
    }

    fn leave_out(&mut self, field: &str, why: &str) {
        if self.left_out.len() < NOTES {
            let field: String = field.chars().take(64).collect();
            self.left_out.push(format!("{}.{field} {why}", self.place));
        }
    }
}

/// A name of ours for a name of theirs, which may be any text; empty when
/// nothing of it can stay.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars() {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_alphanumeric() || (matches!(c, '.' | '_') && !slug.is_empty()) {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() == 63 {
            break;
        }
    }
    slug.trim_end_matches('-').into()
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
