//! Image references, as far as the default of imagePullPolicy depends on them.
//!
//! Depends on nothing. The grammar is that of github.com/distribution/reference, which the API server
//! parses images with; `defaults.rs` asks one question of it.

/// Longest path of a repository.
const MAX_PATH: usize = 255;

/// Longest tag.
const MAX_TAG: usize = 128;

/// Whether the image's tag is `latest`, written or implied by the lack of any tag and digest.
///
/// A text that is no image reference has no tag: the API server defaults first and validates later.
pub(super) fn is_latest(image: &str) -> bool {
    matches!(
        parse(image),
        Some(Reference { tag: Some("latest"), .. } | Reference { tag: None, digest: None })
    )
}

struct Reference<'a> {
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

fn parse(image: &str) -> Option<Reference<'_>> {
    if image.len() == 64 && is_lower_hex(image) {
        return None; // an image id, not a name
    }
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let last_segment = name.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match name[last_segment..].split_once(':') {
        Some((last, tag)) => (&name[..last_segment + last.len()], Some(tag)),
        None => (name, None),
    };
    let well_formed = is_name(name) && tag.is_none_or(is_tag) && digest.is_none_or(is_digest);
    well_formed.then_some(Reference { tag, digest })
}

/// A repository's name: path components, the first of which may be a registry.
fn is_name(name: &str) -> bool {
    let path = match name.split_once('/') {
        Some((first, rest)) if looks_like_registry(first) => {
            if is_registry(first) {
                rest
            } else {
                name
            }
        }
        _ => name,
    };
    // Names without a registry belong to docker.io, those without a second component to its library.
    let implied = if name.contains('/') { 0 } else { "library/".len() };
    implied + path.len() <= MAX_PATH && path.split('/').all(is_path_component)
}

/// Whether a first component is meant as a registry rather than as a namespace of docker.io.
fn looks_like_registry(component: &str) -> bool {
    component == "localhost" || component.contains(['.', ':']) || component.chars().any(char::is_uppercase)
}

/// `host[:port]`, the host being a domain name or an IPv6 address in brackets.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else { return false };
            let is_address =
                !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            (is_address, after.strip_prefix(':').or_else(|| after.is_empty().then_some("0")))
        }
        None => {
            let (domain, port) = text.split_once(':').unwrap_or((text, "0"));
            (domain.split('.').all(is_domain_component), Some(port))
        }
    };
    host && port.is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

fn is_domain_component(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Lower-case letters and digits, held together by `.`, `_`, `__` or any number of dashes.
fn is_path_component(text: &str) -> bool {
    let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inside = text.trim_matches(is_alphanumeric);
    let ends_well = text.starts_with(is_alphanumeric) && text.ends_with(is_alphanumeric);
    let is_separator = |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|b| b == b'-');
    ends_well && inside.split(is_alphanumeric).all(is_separator)
}

fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

/// A digest of one of the algorithms that the API server knows.
fn is_digest(text: &str) -> bool {
    let digits = match text.split_once(':') {
        Some(("sha256", digits)) if digits.len() == 64 => digits,
        Some(("sha384", digits)) if digits.len() == 96 => digits,
        Some(("sha512", digits)) if digits.len() == 128 => digits,
        _ => return false,
    };
    is_lower_hex(digits)
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "sha256:7cc4b5aefd1d0cadf8d97d4350462ba51c694ebca145b08d7d41b41acc8db5aa";

    #[test]
    fn latest_is_a_tag_or_the_lack_of_tag_and_digest() {
        let latest = [
            "nginx",
            "nginx:latest",
            "library/nginx",
            "docker.io/nginx",
            "localhost/x",
            "localhost:5000/x",
            "Registry/x",
            "[::1]:5000/x",
            "a.b:5000/c/d",
            "a__b/c--d/e.f_g",
            "foo_bar.com/x",
            &format!("nginx:latest@{SHA}"),
        ];
        for image in latest {
            assert!(is_latest(image), "{image}");
        }
    }

    #[test]
    fn another_tag_a_digest_or_nonsense_is_not_latest() {
        let other = [
            "",
            "nginx:1",
            "localhost:5000",
            &format!("nginx@{SHA}"),
            &format!("nginx:1@{SHA}"),
            "nginx:latest@sha256:abc",
            "Nginx",
            "library/Nginx",
            "nginx/",
            "/nginx",
            "nginx:",
            "nginx: latest",
            "a..b",
            "a___b",
            "-a",
            "nginx:latest:latest",
            "a.b:x/c",
            "{{image}}",
            &"a".repeat(256),
            &"a".repeat(64),
        ];
        for image in other {
            assert!(!is_latest(image), "{image}");
        }
    }
}
