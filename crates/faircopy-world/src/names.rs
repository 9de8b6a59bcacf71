//! Names of people and organizations, metadata and pictures: ordinary, foreign and hostile.

use serde_json::{Map, Value, json};

use crate::dice::Dice;

const FIRST: &[&str] = &[
    "Ada", "Zoë", "Mateo", "李", "Chidi", "Priya", "Søren", "Aoife", "Yuki", "Łukasz", "Fatima", "Jean-Luc", "Olga",
    "نور", "Kwame", "Inés", "Tom", "Maya", "Đức", "Grace",
];
const LAST: &[&str] = &[
    "Lovelace",
    "O'Brien",
    "García Márquez",
    "小龍",
    "Okafor",
    "Nguyễn",
    "Ångström",
    "van der Berg",
    "Smith",
    "Kowalczyk",
    "D’Angelo",
    "Müller",
    "Иванова",
    "Haddad",
    "Mensah",
    "Tanaka",
    "Hopper",
    "Silva",
];
const HOSTILE: &[&str] = &[
    "<img src=x onerror=alert(1)>",
    "=cmd|' /C calc'!A0",
    "Robert'); DROP TABLE users;--",
    "👩‍👩‍👧‍👦🚀",
    "\u{202e}desrever",
    "${jndi:ldap://x}",
    "a\"b\\c\nd",
    "Z̷̢͠a̸l̵g̶o̷",
];
const ORGANIZATION_FIRST: &[&str] = &[
    "Acme",
    "Globex",
    "Blåbær",
    "North Star",
    "Quiet River",
    "株式会社さくら",
    "Initech",
    "Café Olé",
    "Copper",
    "Umbra",
    "Lindqvist & Söhne",
    "Polar",
];
const ORGANIZATION_LAST: &[&str] =
    &["Corp", "Labs", "Studio", "GmbH", "Partners", "Robotics", "Health", "Logistics", "Foods", "Analytics"];

/// A first name; one in eight is hostile unless `friendly`.
pub(crate) fn first_name(dice: &mut Dice, friendly: bool) -> String {
    one_of(dice, FIRST, friendly)
}

/// A last name; one in eight is hostile unless `friendly`.
pub(crate) fn last_name(dice: &mut Dice, friendly: bool) -> String {
    one_of(dice, LAST, friendly)
}

fn one_of(dice: &mut Dice, ordinary: &[&str], friendly: bool) -> String {
    let names = if !friendly && dice.chance(12) { HOSTILE } else { ordinary };
    (*dice.pick(names)).to_owned()
}

/// The name of an organization; one in ten is hostile unless `friendly`.
pub(crate) fn organization_name(dice: &mut Dice, friendly: bool) -> String {
    if !friendly && dice.chance(10) {
        return (*dice.pick(HOSTILE)).to_owned();
    }
    format!("{} {}", dice.pick(ORGANIZATION_FIRST), dice.pick(ORGANIZATION_LAST))
}

/// An e-mail address that nobody else has.
pub(crate) fn email(dice: &mut Dice, first: &str) -> String {
    let local: String = first.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let host = *dice.pick(&["example.com", "acme.example", "mail.example.org"]);
    format!("{local}+{}@{host}", dice.base62(8).to_lowercase())
}

/// A slug made of a name: its ASCII letters and digits, and a suffix that makes it unique.
pub(crate) fn slug(dice: &mut Dice, name: &str) -> String {
    let words: Vec<String> = name
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let stem = if words.is_empty() { "organization".to_owned() } else { words.join("-") };
    format!("{stem}-{}", dice.between(1_000_000, 9_999_999))
}

/// The address of a picture on Clerk's image server: long, as the real ones are.
pub(crate) fn image_url(dice: &mut Dice) -> String {
    format!("https://img.clerk.com/{}", dice.base62(132))
}

/// Public metadata: from empty to nested and foreign, with a workspace link in about `link_percent` of a hundred.
pub(crate) fn public_metadata(dice: &mut Dice, link_percent: u32) -> Value {
    let mut metadata = Map::new();
    let mut set = |key: &str, value: Value| metadata.insert(key.to_owned(), value);
    match dice.below(6) {
        0 => {}
        1 => {
            set("plan", json!(dice.pick(&["free", "pro", "enterprise"])));
        }
        2 => {
            set("größe", json!("naïve – 文字 🙂"));
            set("city", json!(dice.pick(&["São Paulo", "東京", "Kraków", "Cork"])));
        }
        3 => {
            let deep = json!({"levels": [1, 2, {"three": [null, true, {"four": "five"}]}], "ratio": 0.25});
            set("preferences", json!({"theme": dice.pick(&["dark", "light"]), "deep": deep, "tags": ["a", "b", ""]}));
        }
        4 => {
            set("onboarded", json!(dice.chance(50)));
            set("seats", json!(dice.between(-3, 9_007_199_254_740_991)));
            set("note", Value::Null);
        }
        _ => {
            set("html", json!("<script>alert('metadata')</script>"));
            set("quote", json!("back\\slash \"quoted\"\tand a tab"));
        }
    }
    if dice.chance(link_percent) {
        let link = json!(format!("ws_{}", dice.base62(10)));
        match dice.below(6) {
            0 | 1 => {
                set("workspaceId", link);
            }
            2 => {
                set("convexWorkspaceId", link);
            }
            3 => {
                set("workspaceId", link);
                set("convexWorkspaceId", json!("ws_other"));
            }
            4 => {
                set("workspaceId", json!(""));
                set("convexWorkspaceId", link);
            }
            _ => {
                set("workspaceId", json!(42));
            }
        }
    }
    Value::Object(metadata)
}

/// What a role is called, and what it permits.
pub(crate) fn role(key: &str) -> (&str, &'static [&'static str]) {
    match key {
        "org:admin" => {
            ("Admin", &["org:sys_profile:manage", "org:sys_memberships:manage", "org:posts:read", "org:posts:write"])
        }
        "org:member" => ("Member", &["org:posts:read", "org:posts:write"]),
        "org:guest" => ("Guest", &[]),
        other => (other.strip_prefix("org:").unwrap_or(other), &["org:billing:read"]),
    }
}

/// The roles of the instance: Clerk's two, and two of its own.
pub(crate) const ROLES: &[&str] = &["org:admin", "org:member", "org:guest", "org:billing_manager"];
