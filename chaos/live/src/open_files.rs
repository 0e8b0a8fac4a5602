//! How many files, sockets among them, this process and those that it starts may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to the hardest that this user may take, for this process and those that it starts from now on.
/// Answers the limit that holds then; none: there is no limit.
///
/// # Errors
/// The operating system does not let it.
pub fn raise() -> std::io::Result<Option<u64>> {
    let now = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum })?;
    Ok(getrlimit(Resource::Nofile).current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_hardest_afterwards() {
        let raised = raise().expect("a user may do that");
        assert_eq!(raised, getrlimit(Resource::Nofile).maximum);
        assert_eq!(raise().expect("again"), raised);
    }
}
