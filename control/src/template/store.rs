//! All templates, and which of them is active.

use std::collections::BTreeMap;

use super::{
    Template, TemplateError, Variant,
    validate::{bad_name, is_name},
};

/// Own templates.
pub(super) const MOST: usize = 100;

/// The built-in ones: one for each variant with an image of its own, and named
/// like it. The first is active unless another one is.
const BUILT_IN: [Variant; 3] = [Variant::Krinkuto11, Variant::NanoAce, Variant::Jopsis];

/// Who a template belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It comes with Millrace, and is never changed.
    Builtin,
    /// It is the user's.
    Own,
}

/// What saving a template did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    /// There was none of this name.
    Created,
    /// The one of this name was another one.
    Replaced,
    /// The one of this name was the same.
    Unchanged,
}

/// Why the templates were left as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// Each fault with its field.
    #[error("{}", joined(.0))]
    Invalid(Vec<TemplateError>),
    /// There is none of this name.
    #[error("there is no template {0:?}")]
    Unknown(String),
    /// It is never changed.
    #[error("the template {0:?} is built in")]
    BuiltIn(String),
    /// It is in use.
    #[error("the template {0:?} is active")]
    Active(String),
    /// The name is taken.
    #[error("there is a template {0:?} already")]
    Taken(String),
    /// There are as many as there may be.
    #[error("there are {MOST} own templates already")]
    Full,
    /// What was to be imported is no list of templates.
    #[error("{0}")]
    Document(String),
}

impl StoreError {
    /// There is none of this name.
    pub(crate) fn unknown(name: &str) -> Self {
        Self::Unknown(name.chars().take(64).collect())
    }

    /// What helps.
    pub(crate) const fn remedy(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "correct what is named",
            Self::Unknown(_) => "take the name of one that exists",
            Self::BuiltIn(_) => "save a copy under a name of its own, and change that",
            Self::Active(_) => "activate another one first",
            Self::Taken(_) => "take another name, or delete that one first",
            Self::Full => "delete one that is not needed",
            Self::Document(_) => "send what was exported, here or by the system before",
        }
    }
}

fn joined(faults: &[TemplateError]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The built-in templates and up to 100 own ones, and which is active.
#[derive(Clone, Debug)]
pub(crate) struct Templates {
    built_in: [Template; 3],
    own: BTreeMap<String, Template>,
    active: String,
}

impl Default for Templates {
    fn default() -> Self {
        let built_in = BUILT_IN.map(plain);
        let active = built_in[0].name.clone();
        Self { built_in, own: BTreeMap::new(), active }
    }
}

/// A variant as it is.
fn plain(variant: Variant) -> Template {
    Template {
        name: variant.word().into(),
        variant,
        image: None,
        parameters: BTreeMap::new(),
        environment: BTreeMap::new(),
        entrypoint: None,
        command: Vec::new(),
        container_port: None,
    }
}

impl Templates {
    /// All of them: the built-in ones, then the own ones by name.
    pub(crate) fn list(&self) -> impl Iterator<Item = (&Template, Kind)> {
        let built_in = self.built_in.iter().map(|template| (template, Kind::Builtin));
        built_in.chain(self.own.values().map(|template| (template, Kind::Own)))
    }

    /// The one that new engines are made of.
    pub(crate) fn active(&self) -> &Template {
        self.get(&self.active).unwrap_or(&self.built_in[0])
    }

    /// The one of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Template> {
        self.list().map(|(template, _)| template).find(|template| template.name == name)
    }

    /// Saves an own one, in place of that of the same name. A secret that is
    /// `***` stays what it was there.
    ///
    /// # Errors
    /// When it is not valid, its name is a built-in one's, or there are too many.
    pub(crate) fn put(&mut self, mut template: Template) -> Result<Saved, StoreError> {
        self.not_built_in(&template.name)?;
        let known = self.own.get(&template.name);
        template.reveal(known);
        template.validate().map_err(StoreError::Invalid)?;
        let saved = match known {
            Some(known) if *known == template => Saved::Unchanged,
            Some(_) => Saved::Replaced,
            None if MOST <= self.own.len() => return Err(StoreError::Full),
            None => Saved::Created,
        };
        self.own.insert(template.name.clone(), template);
        Ok(saved)
    }

    /// Deletes an own one.
    ///
    /// # Errors
    /// When there is none of this name, or it is built in or active.
    pub(crate) fn delete(&mut self, name: &str) -> Result<(), StoreError> {
        self.not_built_in(name)?;
        if !self.own.contains_key(name) {
            return Err(StoreError::unknown(name));
        }
        if self.active == name {
            return Err(StoreError::Active(name.into()));
        }
        self.own.remove(name);
        Ok(())
    }

    /// Renames an own one; it stays active if it is.
    ///
    /// # Errors
    /// When there is none of the first name, it is built in, or the second name
    /// is none for a template or taken.
    pub(crate) fn rename(&mut self, from: &str, to: &str) -> Result<(), StoreError> {
        self.not_built_in(from)?;
        if !self.own.contains_key(from) {
            return Err(StoreError::unknown(from));
        }
        if !is_name(to) {
            return Err(StoreError::Invalid(vec![bad_name(to)]));
        }
        if from == to {
            return Ok(());
        }
        if self.get(to).is_some() {
            return Err(StoreError::Taken(to.into()));
        }
        if let Some(mut template) = self.own.remove(from) {
            template.name = to.into();
            self.own.insert(to.into(), template);
        }
        if self.active == from {
            self.active = to.into();
        }
        Ok(())
    }

    /// Makes new engines of this one; says whether that is a change.
    ///
    /// # Errors
    /// When there is none of this name.
    pub(crate) fn activate(&mut self, name: &str) -> Result<bool, StoreError> {
        let Some(template) = self.get(name) else { return Err(StoreError::unknown(name)) };
        let name = template.name.clone();
        let changed = self.active != name;
        self.active = name;
        Ok(changed)
    }

    /// The own ones, by name.
    pub(super) fn own(&self) -> impl Iterator<Item = &Template> {
        self.own.values()
    }

    fn not_built_in(&self, name: &str) -> Result<(), StoreError> {
        match self.built_in.iter().any(|template| template.name == name) {
            true => Err(StoreError::BuiltIn(name.into())),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Architecture;
    use serde_json::{Value, json};

    fn template(name: &str, parameters: Value) -> Template {
        serde_json::from_value(json!({ "name": name, "variant": "jopsis", "parameters": parameters }))
            .unwrap()
    }

    fn names(templates: &Templates) -> Vec<(&str, Kind)> {
        templates.list().map(|(template, kind)| (template.name.as_str(), kind)).collect()
    }

    #[test]
    fn the_built_in_ones_are_there_valid_and_never_changed() {
        use Kind::{Builtin, Own};
        let mut templates = Templates::default();
        assert_eq!(names(&templates), [("krinkuto11", Builtin), ("nano-ace", Builtin), ("jopsis", Builtin)]);
        assert_eq!(templates.active().name, "krinkuto11");
        for (template, _) in templates.list() {
            assert!(template.render(Architecture::Amd64).is_ok(), "{template:?}");
        }
        let built_in = |name: &str| Err(StoreError::BuiltIn(name.into()));
        for name in ["krinkuto11", "nano-ace", "jopsis"] {
            assert_eq!(templates.put(template(name, json!({}))).map(|_| ()), built_in(name));
            assert_eq!(templates.delete(name), built_in(name));
            assert_eq!(templates.rename(name, "mine"), built_in(name));
        }
        templates.put(template("b", json!({}))).unwrap();
        templates.put(template("a", json!({}))).unwrap();
        assert_eq!(names(&templates)[3..], [("a", Own), ("b", Own)]);
    }

    #[test]
    fn own_ones_are_created_replaced_renamed_activated_and_deleted() {
        let mut templates = Templates::default();
        let (first, second) = (json!({ "live-buffer": 10 }), json!({ "live-buffer": 20 }));
        assert_eq!(templates.put(template("a", first.clone())), Ok(Saved::Created));
        assert_eq!(templates.put(template("a", first)), Ok(Saved::Unchanged));
        assert_eq!(templates.put(template("a", second.clone())), Ok(Saved::Replaced));
        assert_eq!(templates.get("a"), Some(&template("a", second.clone())));
        assert!(matches!(templates.put(template("a", json!({ "port": 1 }))), Err(StoreError::Invalid(_))));
        assert_eq!(templates.get("a"), Some(&template("a", second.clone())), "as it was");

        let missing = |name: &str| StoreError::Unknown(name.into());
        assert_eq!(templates.activate("b"), Err(missing("b")));
        assert_eq!(templates.activate("a"), Ok(true));
        assert_eq!(templates.activate("a"), Ok(false));
        assert_eq!(templates.delete("a"), Err(StoreError::Active("a".into())));

        assert_eq!(templates.rename("x", "y"), Err(missing("x")));
        assert!(matches!(templates.rename("a", "No"), Err(StoreError::Invalid(_))));
        assert_eq!(templates.rename("a", "jopsis"), Err(StoreError::Taken("jopsis".into())));
        assert_eq!(templates.rename("a", "a"), Ok(()));
        assert_eq!(templates.rename("a", "b"), Ok(()));
        assert_eq!((templates.get("a"), templates.active()), (None, &template("b", second)));

        assert_eq!(templates.activate("jopsis"), Ok(true));
        assert_eq!(templates.delete("b"), Ok(()));
        assert_eq!(templates.delete("b"), Err(missing("b")));
    }

    #[test]
    fn there_is_room_for_a_hundred() {
        let mut templates = Templates::default();
        for at in 0..100 {
            assert_eq!(templates.put(template(&format!("t{at}"), json!({}))), Ok(Saved::Created));
        }
        assert_eq!(templates.put(template("more", json!({}))), Err(StoreError::Full));
        assert_eq!(templates.put(template("t0", json!({ "live-buffer": 10 }))), Ok(Saved::Replaced));
        assert_eq!(templates.list().count(), 103);
    }

    #[test]
    fn a_hidden_secret_stays_what_it_was() {
        let mut templates = Templates::default();
        let mut known = template("a", json!({ "access-token": "hunter" }));
        known.environment.insert("A_KEY".into(), "key".into());
        known.environment.insert("ARGS".into(), "--password x".into());
        known.environment.insert("PLAIN".into(), "p".into());
        templates.put(known.clone()).unwrap();

        let mut shown = templates.get("a").unwrap().redacted();
        assert_eq!(templates.put(shown.clone()), Ok(Saved::Unchanged));
        shown.parameters.insert("live-buffer".into(), crate::template::Value::Number(10));
        assert_eq!(templates.put(shown.clone()), Ok(Saved::Replaced));
        known.parameters.insert("live-buffer".into(), crate::template::Value::Number(10));
        assert_eq!(templates.get("a"), Some(&known));

        shown.name = "b".into();
        let Err(StoreError::Invalid(faults)) = templates.put(shown.clone()) else { panic!("no such secret") };
        assert_eq!(faults.len(), 3, "{faults:?}");
        shown.name = "a".into();
        shown.environment.insert("PLAIN".into(), "***".into());
        assert!(matches!(templates.put(shown), Err(StoreError::Invalid(_))), "that was no secret");
    }
}
