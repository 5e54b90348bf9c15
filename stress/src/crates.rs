//! The versions of the crates that this one was built with.

/// The workspace's own record of them.
const LOCK: &str = include_str!("../../Cargo.lock");

/// The version of a crate, as `0.1.0 (crate some-name)`; empty if the workspace does not use it.
pub fn version(name: &str) -> String {
    let heading = format!("name = \"{name}\"\nversion = \"");
    let version = LOCK.split_once(&heading).and_then(|(_, rest)| rest.split('"').next());
    version.map_or_else(String::new, |version| format!("{version} (crate {name})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_workspace() {
        assert_eq!(version("stress"), concat!(env!("CARGO_PKG_VERSION"), " (crate stress)"));
        assert_eq!(version("no-such-crate"), "");
    }
}
