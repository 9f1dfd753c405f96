//! The forms of names.

/// The longest DNS label.
const LABEL_MAX: usize = 63;

/// The longest DNS subdomain.
const SUBDOMAIN_MAX: usize = 253;

/// Whether a text is a DNS label (RFC 1123), as names of namespaces are.
#[must_use]
pub fn is_label(text: &str) -> bool {
    let word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= LABEL_MAX
        && bytes.iter().all(|byte| word(byte) || *byte == b'-')
        && bytes.first().is_some_and(word)
        && bytes.last().is_some_and(word)
}

/// Whether a text is a DNS subdomain (RFC 1123), as names of most objects are.
#[must_use]
pub fn is_subdomain(text: &str) -> bool {
    // Its labels may be longer than DNS has them; Kubernetes looks at the whole only.
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        bytes.iter().all(|&byte| word(byte) || byte == b'-')
            && bytes.first().is_some_and(|&byte| word(byte))
            && bytes.last().is_some_and(|&byte| word(byte))
    };
    text.len() <= SUBDOMAIN_MAX && text.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_names_are_names() {
        assert!(is_label(&"a".repeat(63)) && !is_label(&"a".repeat(64)));
        assert!(is_subdomain(&"a".repeat(253)) && !is_subdomain(&"a".repeat(254)));
    }
}
