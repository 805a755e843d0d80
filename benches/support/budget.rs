//! Figures against their limits.

/// Says whether a figure keeps its budget; returns 1 when it does not.
pub(crate) fn check(what: &str, figure: f64, limit: f64, is_kept: bool) -> usize {
    let verdict = if is_kept { "kept" } else { "MISSED" };
    eprintln!("budget {verdict}: {what} is {figure:.3}, limit {limit:.3}");
    usize::from(!is_kept)
}
