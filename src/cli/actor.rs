//! Who acts, as every call says it: `user@host`, for the rollout's activity.
//!
//! A claim and no proof: the server writes it down beside what it knows of the caller.

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use super::Environment;

/// The metadata that carries it.
const KEY: &str = "rolloutd-actor";

/// As many characters as are sent: longer than any user's and host's names together need.
const LONGEST: usize = 256;

/// What stands for a user whom nothing names, as in most containers.
const UNKNOWN: &str = "unknown";

/// Who acts; nobody, when there is nothing to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Actor(Option<MetadataValue<Ascii>>);

impl Actor {
    /// What `--actor` says, or ROLLOUTD_ACTOR, or the user and the host.
    pub(super) fn new(flag: Option<&str>, environment: &Environment) -> Self {
        let given = flag.or(environment.actor.as_deref().filter(|actor| !actor.is_empty()));
        let filled = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        let name = match (given, filled(&environment.user), filled(&environment.host)) {
            (Some(given), ..) => given.to_owned(),
            (None, Some(user), Some(host)) => format!("{user}@{host}"),
            (None, Some(user), None) => user,
            (None, None, Some(host)) => format!("{UNKNOWN}@{host}"),
            (None, None, None) => String::new(),
        };
        Self(value(&name))
    }
}

/// A name as metadata may hold it: what is not printable ASCII is a question mark.
fn value(name: &str) -> Option<MetadataValue<Ascii>> {
    let sendable = |character: char| if matches!(character, ' '..='~') { character } else { '?' };
    let name: String = name.trim().chars().take(LONGEST).map(sendable).collect();
    if name.is_empty() { None } else { name.parse().ok() }
}

impl Interceptor for Actor {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(actor) = &self.0 {
            request.metadata_mut().insert(KEY, actor.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(flag: Option<&str>, variables: [&str; 3]) -> Option<String> {
        let [actor, user, host] = variables.map(|value| Some(value.to_owned()));
        let environment = Environment { actor, user, host, ..Environment::default() };
        let request = Actor::new(flag, &environment).call(Request::new(())).unwrap();
        request.metadata().get(KEY).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn an_actor_is_what_is_said_or_else_the_user_and_the_host() {
        for (flag, variables, actor) in [
            (None, ["", "ada", "desk"], Some("ada@desk")),
            (None, ["release bot", "ada", "desk"], Some("release bot")),
            (Some("Grace"), ["release bot", "ada", "desk"], Some("Grace")),
            (Some(""), ["release bot", "ada", "desk"], None),
            (None, ["", "", "web-7f"], Some("unknown@web-7f")),
            (None, ["", "ada", ""], Some("ada")),
            (None, ["", "", ""], None),
            (None, ["Zoë\n", "", ""], Some("Zo?")),
        ] {
            assert_eq!(sent(flag, variables).as_deref(), actor, "{flag:?} {variables:?}");
        }
    }

    #[test]
    fn what_no_header_can_hold_is_cut() {
        assert_eq!(sent(Some(&"a".repeat(100_000)), [""; 3]).unwrap().len(), LONGEST);
        assert_eq!(sent(None, [""; 3]), None);
    }
}
