//! What a version 2 token grants in its organization: features, permission names, and a bit mask for each feature.

/// What the claims `fea`, `o.per` and `o.fpm` say together.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Grants {
    /// `org:<feature>:<permission>`, in the order of features and names.
    pub permissions: Vec<String>,
    /// A feature of the user stood before one of the organization. Clerk's documentation aligns the masks with all
    /// features, its SDK with those of the organization; only here do the two differ. The SDK is followed, and whoever
    /// verifies may want to say so in the log: no such token has been seen.
    pub ambiguous: bool,
}

/// Decodes the permissions of the active organization as Clerk's SDK does (clerk-facts.md, section 3.2): bit *i* of the
/// *k*-th mask gives the *i*-th name in the *k*-th feature of the organization. What cannot be read grants nothing.
#[must_use]
pub fn grants(features: &str, names: &str, masks: &str) -> Grants {
    if features.is_empty() || names.is_empty() || masks.is_empty() {
        return Grants::default();
    }
    let Some(Scoped { organization, ambiguous }) = by_scope(features) else { return Grants::default() };
    let names: Vec<&str> = names.split(',').map(str::trim).collect();
    let mut permissions = Vec::new();
    for (feature, mask) in organization.into_iter().zip(masks.split(',')) {
        let bits = low_bits(mask.trim(), names.len()).unwrap_or_default();
        let set = |position: usize| bits.get(position / 8).is_some_and(|byte| byte >> (position % 8) & 1 == 1);
        let granted = names.iter().enumerate().filter(|(position, name)| !name.is_empty() && set(*position));
        permissions.extend(granted.map(|(_, name)| format!("org:{feature}:{name}")));
    }
    Grants { permissions, ambiguous }
}

struct Scoped<'a> {
    organization: Vec<&'a str>,
    ambiguous: bool,
}

/// The organization's features in order: those of scope `o`, `ou` or `uo`. An item without a scope makes the alignment
/// doubtful, and so the list unreadable.
fn by_scope(features: &str) -> Option<Scoped<'_>> {
    let mut scoped = Scoped { organization: Vec::new(), ambiguous: false };
    let mut left_out = false;
    for item in features.split(',') {
        let (scope, feature) = item.trim().split_once(':')?;
        match scope {
            "o" | "ou" | "uo" => {
                scoped.ambiguous = left_out;
                scoped.organization.push(feature);
            }
            _ => left_out = true,
        }
    }
    Some(scoped)
}

/// The lowest `width` bits of a decimal number of any length, least significant byte first. `None` for anything but
/// digits: `-1` and `1.5` grant nothing.
fn low_bits(decimal: &str, width: usize) -> Option<Vec<u8>> {
    if decimal.is_empty() || !decimal.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut bits = vec![0; width.div_ceil(8)];
    for digit in decimal.bytes() {
        // Times ten plus the digit, byte by byte; what runs over the top has no name and is dropped.
        let mut carry = digit - b'0';
        for byte in &mut bits {
            [*byte, carry] = (u16::from(*byte) * 10 + u16::from(carry)).to_le_bytes();
        }
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_read_fail_closed() {
        let check = |features: &str, names: &str, masks: &str, expected: &[&str]| {
            assert_eq!(grants(features, names, masks).permissions, expected, "{features} {names} {masks}");
        };
        check("o:a", "x,y", "3", &["org:a:x", "org:a:y"]);
        check(" o:a , o:b ", " x , y ", " 1 , 2 ", &["org:a:x", "org:b:y"]);
        check("o:a", "x,y", "002", &["org:a:y"]);
        check("o:a", "x,y", "4", &[]);
        check("o:a,o:b", "x", "1", &["org:a:x"]);
        check("o:a", "x", "1,1,1", &["org:a:x"]);
        check("o:a,o:b", "x", "-1,1", &["org:b:x"]);
        check("o:a,o:b", "x", "1.5,1", &["org:b:x"]);
        check("o:a,o:b", "x", ",1", &["org:b:x"]);
        check("o:a,o:b", "x", "٣,1", &["org:b:x"]);
        check("o:a:b", "x", "1", &["org:a:b:x"]);
        check("o:a", "x,,y", "7", &["org:a:x", "org:a:y"]);
        check("o:a,plain", "x", "1", &[]);
        check("z:a,o:b", "x", "1", &["org:b:x"]);
        check("", "x", "1", &[]);
        check("o:a", "", "1", &[]);
        check("o:a", "x", "", &[]);
    }

    #[test]
    fn a_mask_may_be_longer_than_any_machine_word() {
        let names: Vec<String> = (0..200).map(|number| format!("p{number}")).collect();
        // 2^199 + 1
        let mask = "803469022129495137770981046170581301261101496891396417650689";
        assert_eq!(grants("o:a", &names.join(","), mask).permissions, ["org:a:p0", "org:a:p199"]);
        assert_eq!(grants("o:a", "x", &"9".repeat(8000)).permissions, ["org:a:x"]);
    }

    #[test]
    fn only_a_users_feature_before_an_organizations_is_ambiguous() {
        let check = |features: &str, expected: bool| assert_eq!(grants(features, "x", "1").ambiguous, expected);
        check("o:a,u:b", false);
        check("u:b", false);
        check("ou:a,o:b,u:c", false);
        check("u:b,o:a", true);
    }
}
