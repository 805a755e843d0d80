//! `/api/v1/templates`: what engines are made of.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State as Handle,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::{
    admins::Admin,
    fleet::{units, units_mut},
    input::Body,
    key::Key,
    problem::Problem,
};
use crate::{
    state::Shared,
    template::{Kind, Saved, StoreError, Template, Templates, write_atomically},
    turn::TEMPLATES,
};

/// Longest document to import: a hundred templates with long command lines.
pub(super) const IMPORT: usize = 1 << 20;
/// For the disk.
const WRITE: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct TemplateAnswer {
    /// Its secrets are `***`.
    #[serde(flatten)]
    template: Template,
    built_in: bool,
    active: bool,
    /// Engines are made of it: the active one, unless the settings name another.
    in_force: bool,
}

/// All of them, without their secrets.
pub(super) async fn list(Handle(state): Handle<Shared>) -> Result<Response, Problem> {
    let state = state.lock();
    let units = units(&state)?;
    let in_force = units.template().map(|template| &*template.name);
    let all: Vec<_> = answers(&units.templates, in_force).collect();
    Ok(super::json(
        json!({ "active": units.templates.active().name, "in_force": in_force, "templates": all }),
    ))
}

/// One, without its secrets.
pub(super) async fn one(Handle(state): Handle<Shared>, Key(name): Key) -> Result<Response, Problem> {
    let state = state.lock();
    let units = units(&state)?;
    let in_force = units.template().map(|template| &*template.name);
    let found = answers(&units.templates, in_force).find(|answer| answer.template.name == name);
    found.map(super::json).ok_or_else(|| refused(&StoreError::unknown(&name)))
}

fn answers<'a>(
    templates: &'a Templates,
    in_force: Option<&'a str>,
) -> impl Iterator<Item = TemplateAnswer> + 'a {
    let active = &templates.active().name;
    templates.list().map(move |(template, kind)| TemplateAnswer {
        built_in: kind == Kind::Builtin,
        active: template.name == *active,
        in_force: in_force == Some(&*template.name),
        template: template.redacted(),
    })
}

/// With their secrets, to be imported elsewhere.
pub(super) async fn export(_: Admin, Handle(state): Handle<Shared>) -> Result<Response, Problem> {
    let state = state.lock();
    Ok(super::json(units(&state)?.templates.export()))
}

/// Saves one under the path's name.
pub(super) async fn put(
    _: Admin,
    Handle(state): Handle<Shared>,
    Key(name): Key,
    Body(mut fields): Body<Map<String, Value>>,
) -> Result<Response, Problem> {
    let named = fields.entry("name").or_insert_with(|| json!(name));
    if *named != json!(name) {
        return Err(Problem::bad_request(
            "bad_template",
            "the name in the body is not that in the path".to_owned(),
            "leave the name out of the body, or rename the template with POST …/rename",
        ));
    }
    let template = Template::read(Value::Object(fields)).map_err(|error| refused(&error))?;
    change(&state, |templates| {
        let saved = templates.put(template)?;
        let (word, status) = match saved {
            Saved::Created => ("created", StatusCode::CREATED),
            Saved::Replaced => ("replaced", StatusCode::OK),
            Saved::Unchanged => ("unchanged", StatusCode::OK),
        };
        Ok((status, json!({ "name": name, "saved": word })))
    })
    .await
}

/// Deletes an own one.
pub(super) async fn delete(
    _: Admin,
    Handle(state): Handle<Shared>,
    Key(name): Key,
) -> Result<Response, Problem> {
    change(&state, |templates| {
        templates.delete(&name)?;
        Ok((StatusCode::OK, json!({ "deleted": name })))
    })
    .await
}

/// Makes engines of it from now on; those there are follow one by one.
pub(super) async fn activate(
    _: Admin,
    Handle(state): Handle<Shared>,
    Key(name): Key,
) -> Result<Response, Problem> {
    change(&state, |templates| {
        let changed = templates.activate(&name)?;
        Ok((StatusCode::OK, json!({ "active": name, "changed": changed })))
    })
    .await
}

/// Another name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Renaming {
    to: String,
}

/// Gives an own one another name.
pub(super) async fn rename(
    _: Admin,
    Handle(state): Handle<Shared>,
    Key(name): Key,
    Body(Renaming { to }): Body<Renaming>,
) -> Result<Response, Problem> {
    change(&state, |templates| {
        templates.rename(&name, &to)?;
        Ok((StatusCode::OK, json!({ "name": to, "was": name })))
    })
    .await
}

/// Takes over what was exported, here or by the predecessor; all or nothing.
pub(super) async fn import(
    _: Admin,
    Handle(state): Handle<Shared>,
    Body(document): Body<Value>,
) -> Result<Response, Problem> {
    change(&state, |templates| Ok((StatusCode::OK, json!(templates.import(document)?)))).await
}

/// Changes the templates, and stores them where there is a place for that, one
/// change after the other.
async fn change(
    state: &Shared,
    change: impl FnOnce(&mut Templates) -> Result<(StatusCode, Value), StoreError>,
) -> Result<Response, Problem> {
    let turn = {
        let state = state.lock();
        units(&state)?;
        Arc::clone(&state.storing)
    };
    let turn = timeout(WRITE, turn.lock_owned()).await.map_err(|_| {
        Problem::unavailable(
            "disk_busy",
            "an earlier change is still being stored".to_owned(),
            "make sure that the disk with server.data_dir answers, and try again",
        )
    })?;
    let (status, mut answer, file, bytes) = {
        let mut state = state.lock();
        let units = units_mut(&mut state)?;
        let (status, answer) = change(&mut units.templates).map_err(|error| refused(&error))?;
        // What engines are made of may be another thing now.
        units.resolve();
        let file = units.settings().data_dir.as_ref().map(|directory| directory.join(TEMPLATES));
        (status, answer, file, units.templates.to_json_bytes())
    };
    let stored = file.is_some();
    if let Some(file) = file {
        // The next change is not written before this one, even if nobody waits for it.
        let write = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            write_atomically(&file, &bytes).map_err(|error| format!("{}: {error}", file.display()))
        });
        match timeout(WRITE, write).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => return Err(not_stored(&error)),
            Ok(Err(error)) => return Err(not_stored(&error.to_string())),
            Err(_) => return Err(not_stored("the disk does not answer")),
        }
    }
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("stored".to_owned(), json!(stored));
    }
    Ok((status, Json(answer)).into_response())
}

fn not_stored(why: &str) -> Problem {
    tracing::warn!(error = why, "a change of the templates cannot be stored, and is lost with a restart");
    Problem {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        code: "not_stored",
        message: format!("the change is in force, and is lost with a restart: it cannot be stored: {why}"),
        remedy: "make server.data_dir a directory that can be written, with room on its disk, and change it again",
    }
}

fn refused(error: &StoreError) -> Problem {
    let (status, code) = match error {
        StoreError::Invalid(_) | StoreError::Document(_) => (StatusCode::BAD_REQUEST, "bad_template"),
        StoreError::Unknown(_) => (StatusCode::NOT_FOUND, "template_not_found"),
        StoreError::BuiltIn(_) => (StatusCode::CONFLICT, "template_built_in"),
        StoreError::Active(_) => (StatusCode::CONFLICT, "template_active"),
        StoreError::Taken(_) => (StatusCode::CONFLICT, "template_exists"),
        StoreError::Full => (StatusCode::CONFLICT, "too_many_templates"),
    };
    Problem { status, code, message: error.to_string(), remedy: error.remedy() }
}
