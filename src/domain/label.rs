//! Kubernetes' syntax of label keys, label values and DNS names.

/// Whether a text is a label key: a name, or a DNS subdomain, "/", and a name.
pub fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_name(name),
        None => is_name(text),
    }
}

/// Whether a text is a label value: a name, or nothing.
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_name(text)
}

/// Whether a text is a DNS label, as the name of a namespace is.
pub fn is_dns_label(text: &str) -> bool {
    is_framed(text, 63, lower, |b| lower(b) || b == b'-')
}

/// Whether a text is a DNS subdomain: DNS labels of any length, joined by ".".
pub fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253
        && text
            .split('.')
            .all(|part| is_framed(part, 253, lower, |b| lower(b) || b == b'-'))
}

/// The part of a label key behind its prefix.
fn is_name(text: &str) -> bool {
    let outer = |b: u8| b.is_ascii_alphanumeric();
    is_framed(text, 63, outer, |b| outer(b) || b"-_.".contains(&b))
}

fn lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Whether a text is not empty, not too long, and made of `inner` between two of `outer`.
fn is_framed(
    text: &str,
    bytes_max: usize,
    outer: impl Fn(u8) -> bool,
    inner: impl Fn(u8) -> bool,
) -> bool {
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.len() <= bytes_max
        && ends.into_iter().all(|end| end.is_some_and(&outer))
        && text.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::{is_dns_label, is_dns_subdomain, is_label_key, is_label_value};

    #[test]
    fn label_keys_are_as_kubernetes_has_them() {
        let long = "a".repeat(63);
        let (dotted, longest) = (format!("{}.io/a", "a".repeat(250)), format!("x.io/{long}"));
        for key in [
            "a",
            "A_b.c-9",
            "app.kubernetes.io/name",
            &long,
            &longest,
            &dotted,
        ] {
            assert!(is_label_key(key), "{key:?}");
        }
        let (too_long, long_prefix) = (format!("{long}a"), format!("{}/a", "a".repeat(254)));
        for key in [
            "",
            "-a",
            "a-",
            "a b",
            "ä",
            "/a",
            "a/",
            "a/b/c",
            "A.io/a",
            "a_b/c",
            "a..b/c",
            &too_long,
            &long_prefix,
        ] {
            assert!(!is_label_key(key), "{key:?}");
        }
    }

    #[test]
    fn label_values_may_be_empty() {
        for value in ["", "1", "EU_west.1-a"] {
            assert!(is_label_value(value), "{value:?}");
        }
        for value in [" ", "a/b", "a ", "-", &"a".repeat(64)] {
            assert!(!is_label_value(value), "{value:?}");
        }
    }

    #[test]
    fn dns_names_are_lowercase() {
        assert!(is_dns_label("kube-system") && is_dns_label(&"a".repeat(63)));
        for name in ["", "a.b", "A", "-a", "a-", &"a".repeat(64)] {
            assert!(!is_dns_label(name), "{name:?}");
        }
        assert!(is_dns_subdomain("a.b-c.d9"));
        for name in ["", ".", "a.", ".a", "a.-b", "a_b"] {
            assert!(!is_dns_subdomain(name), "{name:?}");
        }
    }
}
