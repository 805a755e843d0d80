//! What a request is for, with the names left out.

/// Method and path without version and query, with `{id}` for whatever names a
/// container, network, volume or command, and `{name}` for an image.
pub(super) fn route(method: &str, target: &str) -> String {
    let path = target.split('?').next().unwrap_or("");
    let mut parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.first().is_some_and(|part| is_version(part)) {
        parts.remove(0);
    }
    let path = match parts.as_slice() {
        ["images", "json" | "create" | "load" | "prune" | "search" | "get"] => parts.join("/"),
        // An image's name may have slashes in it.
        ["images", _, .., last @ ("json" | "history" | "push" | "tag" | "get")] => {
            format!("images/{{name}}/{last}")
        }
        ["images", _, ..] => "images/{name}".to_owned(),
        ["containers" | "networks" | "volumes", "json" | "create" | "prune"] => parts.join("/"),
        [kind @ ("containers" | "networks" | "volumes" | "exec"), _, rest @ ..] => {
            [&[*kind, "{id}"], rest].concat().join("/")
        }
        _ => parts.join("/"),
    };
    format!("{method} /{path}")
}

fn is_version(part: &str) -> bool {
    let numbers = part.strip_prefix('v').and_then(|rest| rest.split_once('.'));
    numbers.is_some_and(|(a, b)| a.parse::<u16>().is_ok() && b.parse::<u16>().is_ok())
}
