//! Names of people and organizations that are made up.

use super::dice::Dice;

const FIRST: &[&str] = &[
    "Amara",
    "Béatrice",
    "Camille",
    "Dmitri",
    "Elif",
    "Farid",
    "Greta",
    "Hiroshi",
    "Ingrid",
    "João",
    "Kateryna",
    "Leïla",
    "Marek",
    "Ngozi",
    "Oisín",
    "Paloma",
    "Quentin",
    "Rosa",
    "Sanjay",
    "Tove",
    "Umberto",
    "Vera",
    "Wanjiru",
    "Ximena",
    "Yusuf",
    "Zofia",
];
const LAST: &[&str] = &[
    "Abara",
    "Bergström",
    "Castillo",
    "Dubois",
    "Eriksen",
    "Fontaine",
    "Greco",
    "Haraldsen",
    "Ito",
    "Jovanović",
    "Kapoor",
    "Lindgren",
    "Moreau",
    "Nakamura",
    "O'Neill",
    "Petrova",
    "Quiroga",
    "Rossi",
    "Sato",
    "Traoré",
    "Ueda",
    "Vargas",
    "Weber",
    "Xu",
    "Yılmaz",
    "Zieliński",
];
const TRADES: &[&str] =
    &["Analytics", "Bakery", "Books", "Clinic", "Foundry", "Games", "Labs", "Maps", "Press", "Works"];
const PLACES: &[&str] = &[
    "Amber", "Birch", "Cobalt", "Delta", "Ember", "Fjord", "Granite", "Harbour", "Indigo", "Juniper", "Kestrel",
    "Lumen",
];

/// A first and a last name.
pub(crate) fn person(dice: &mut Dice) -> (&'static str, &'static str) {
    (*dice.pick(FIRST), *dice.pick(LAST))
}

/// The name of an organization.
pub(crate) fn organization(dice: &mut Dice) -> String {
    let (place, trade) = (*dice.pick(PLACES), *dice.pick(TRADES));
    format!("{place} {trade}")
}

/// The part of a name that an address can have.
pub(crate) fn plain(name: &str) -> String {
    let plain: String = name.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_lowercase();
    if plain.is_empty() { "person".to_owned() } else { plain }
}
