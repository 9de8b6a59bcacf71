//! Session tokens: of the load of `--sessions`, and one whose check is timed.

use aws_lc_rs::signature::RsaKeyPair;
use faircopy_core::Millis;
use faircopy_core::token::{self, Key, Keys, Policy, Verified};
use faircopy_world::token::{Draft, new_key, pem};
use serde_json::json;

/// Who signs the tokens.
pub const ISSUER: &str = "https://clerk.example.com";
const KID: &str = "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S";
const NOW: i64 = 1_760_000_000;
/// Users of one organization.
const MEMBERS: usize = 20;

/// An instance that mints tokens.
pub struct Instance(RsaKeyPair);

impl Default for Instance {
    /// One with a key of its own.
    fn default() -> Instance {
        Instance(new_key())
    }
}

impl Instance {
    /// Its key as `CLERK_JWT_KEY`.
    #[must_use]
    pub fn pem(&self) -> String {
        pem(&self.0)
    }

    /// A token of the `number`-th user, with an active organization, issued at this second and good for so many.
    #[must_use]
    pub fn token(&self, number: usize, now: i64, lifetime: i64) -> String {
        self.token_in(number, number / MEMBERS, now, lifetime)
    }

    /// The same with this organization.
    #[must_use]
    pub fn token_in(&self, number: usize, company: usize, now: i64, lifetime: i64) -> String {
        let (user, organization) = (format!("user_2{number:026}"), format!("org_2{company:026}"));
        let draft = Draft::new(&self.0, KID, ISSUER, &user, now).claim("exp", now + lifetime);
        draft.organization(&organization, "member", &format!("company-{company}")).sign()
    }
}

/// A token, its key and the rules that it keeps.
pub struct Good {
    token: String,
    keys: Keys,
    policy: Policy,
    verified: Verified,
}

/// Mints one with a key of its own.
///
/// # Panics
///
/// If the machine gives no randomness.
#[must_use]
pub fn good() -> Good {
    let instance = Instance::default();
    let organization = json!({"id": "org_1", "rol": "admin", "slg": "acme", "per": "read,manage", "fpm": "3"});
    let draft = Draft::new(&instance.0, KID, ISSUER, "user_1", NOW).claim("o", organization).claim("fea", "o:docs");
    let good = Good {
        token: draft.sign(),
        keys: Keys::from_pem(&instance.pem()).expect("a key"),
        policy: Policy::new(Some(ISSUER.into())),
        verified: Verified::default(),
    };
    assert!(good.verify() && good.verify_again());
    good
}

impl Good {
    /// Whether it is good.
    #[must_use]
    pub fn verify(&self) -> bool {
        token::verify(&self.token, Millis(NOW * 1000), &self.keys, &self.policy).is_ok()
    }

    /// The same where it was found good before.
    #[must_use]
    pub fn verify_again(&self) -> bool {
        let judge = || {
            let token = token::open(&self.token).ok()?;
            let key: &Key = self.keys.get(token.kid())?;
            token.verify_again(key, Millis(NOW * 1000), &self.policy, &self.verified).ok()
        };
        judge().is_some()
    }
}
