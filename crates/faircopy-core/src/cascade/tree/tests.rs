use proptest::prelude::*;

use super::*;

/// `table key parent parent_key pattern…`, keys separated by commas.
fn declared(text: &str) -> Declared {
    let words: Vec<&str> = text.split_whitespace().collect();
    Declared {
        table: words[0].into(),
        key: words[1].split(',').map(ToOwned::to_owned).collect(),
        parent: words[2].into(),
        parent_key: words[3].into(),
        external: words[4..].iter().map(|pattern| (Target::Liveblocks, (*pattern).into())).collect(),
    }
}

fn build(lines: &[&str]) -> Result<Tree, Vec<Fault>> {
    Tree::build(&lines.iter().map(|line| declared(line)).collect::<Vec<_>>())
}

fn names<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Vec<String> {
    nodes.into_iter().map(|node| node.name.to_string()).collect()
}

#[test]
fn the_built_in_tables_are_those_of_the_contract() {
    let tree = Tree::built_in();
    assert_eq!(
        names(tree.order()),
        [
            "faircopy.messages",
            "faircopy.last_reads",
            "faircopy.channels",
            "faircopy.documents",
            "faircopy.code_files",
            "faircopy.whiteboards",
            "faircopy.meetings",
            "faircopy.rooms"
        ]
    );
    assert_eq!(names(tree.below(Root::Workspace)), names(tree.order()));
    assert_eq!(names(tree.below(Root::User)), ["faircopy.last_reads"]);
    assert_eq!(tree.below(Root::Organization).count(), 0);
    let ids: Vec<String> =
        tree.order().iter().flat_map(|node| &node.external).map(|external| external.pattern.to_string()).collect();
    assert_eq!(ids, ["doc:{id}", "code:{id}", "whiteboard:{id}", "room:{id}"]);
    let reads = tree.node(&Name::parse("faircopy.last_reads").unwrap()).unwrap();
    assert_eq!(reads.columns(), ["channel_id", "clerk_user_id"]);
    assert!(tree.order().iter().all(Node::is_built_in));
}

#[test]
fn a_table_may_hang_on_several_things() {
    let tree = build(&[
        "docs id workspace workspace_id doc:{id}",
        "threads id docs doc_id",
        "comments id threads thread_id",
        "comments id docs doc_id",
        "comments id user author_id comment:{id}",
        "notes id organization org_id",
    ])
    .unwrap();
    assert_eq!(names(tree.order()), ["comments", "threads", "docs", "notes"]);
    assert_eq!(names(tree.below(Root::User)), ["comments"]);
    let docs = Parent::parse("docs").unwrap();
    let below: Vec<_> = tree.hanging_on(&docs).map(|(node, hang)| format!("{}.{}", node.name, hang.column)).collect();
    assert_eq!(below, ["comments.doc_id", "threads.doc_id"]);
    let comments = tree.node(&Name::parse("comments").unwrap()).unwrap();
    assert_eq!(tree.roots(comments), [Root::Workspace, Root::User].into());
    assert_eq!(comments.columns(), ["id", "thread_id", "doc_id", "author_id"]);
}

#[test]
fn declared_tables_hang_on_built_in_ones() {
    let mut all = built_in();
    all.push(declared("drawings id rooms room_id drawing:{id}"));
    all.push(declared("faircopy.messages id user author_id"));
    let tree = Tree::build(&all).unwrap();
    let rooms = Parent::parse("faircopy.rooms").unwrap();
    assert!(tree.hanging_on(&rooms).any(|(node, _)| node.name.table() == "drawings"));
    assert_eq!(names(tree.below(Root::User)), ["faircopy.messages", "faircopy.last_reads"]);
    // A table of the application's own goes before one of the same name that is built in.
    all.push(declared("public.rooms id workspace workspace_id"));
    let tree = Tree::build(&all).unwrap();
    assert_eq!(tree.hanging_on(&Parent::parse("rooms").unwrap()).count(), 1);
}

#[test]
fn every_fault_names_table_and_key() {
    let check = |lines: &[&str], expected: &[&str]| {
        let faults = build(lines).unwrap_err();
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(&format!("content table {expected}")), "{told}");
        }
    };
    let root = "a id workspace workspace_id";
    check(&[root, root], &["`a`: `parent` says `workspace` twice"]);
    check(&["public.a id user u", "a id user u"], &["`a`: `parent` says `user` twice"]);
    check(&[root, "a key user u"], &["`a`: `key` is `id` in another entry"]);
    check(&["b id c c_id"], &["`b`: `parent` is `c`, which is neither"]);
    check(&["b id b b_id"], &["`b`: `parent` leads back to this table (b, b)"]);
    check(
        &["b id c c_id", "c id d d_id", "d id b b_id", "e id d d_id"],
        &[
            "`b`: `parent` leads back to this table (b, c, d, b)",
            "`c`: `parent` leads back",
            "`d`: `parent` leads back",
            "`e`: `parent` leads to no workspace",
        ],
    );
    // Also where the circle hangs on something.
    check(
        &[root, "b id a a_id", "b id c c_id", "c id b b_id"],
        &["`b`: `parent` leads back to this table (b, c, b)", "`c`: `parent` leads back"],
    );
    check(&["a x,y workspace w", "b id a a_id"], &["`b`: `parent` is `a`, whose key has several columns"]);
    check(&["a id workspace w doc:{id", "b id a a_id"], &["`a`: `external` doc:{id: has a brace"]);
    check(&["a id workspace w {id} {id}"], &["`a`: `external` says `{id}` twice"]);
    check(&["a x,x workspace w"], &["`a`: `key` must be 1 to 4 different columns"]);
    check(&["a a,b,c,d,e workspace w"], &["`a`: `key` must be 1 to 4"]);
    for bad in ["a\"b", "a;", "1a", "a.b.c", "ä", ".a", "a.", &"a".repeat(64)] {
        check(&[&format!("{bad} id workspace w")], &[&format!("`{bad}`: `table` is not a name")]);
        check(&[&format!("a id {bad} w")], &["`a`: `parent` is not a name"]);
    }
    check(&["a i-d workspace w!"], &["`a`: `key` is not a name", "`a`: `parent_key` is not a name"]);
    check(&["b id zzz w", "c id user -"], &["`c`: `parent_key` is not a name", "`b`: `parent` is `zzz`"]);
}

#[test]
fn a_tree_has_bounds() {
    let many = |number: usize| {
        let lines: Vec<String> = (0..number).map(|at| format!("t{at} id workspace w")).collect();
        build(&lines.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert!(many(MAX_NODES).is_ok());
    assert_eq!(many(MAX_NODES + 1).unwrap_err()[0].what, FaultKind::TooMany(MAX_NODES));
    let hangs = |number: usize| {
        let lines: Vec<String> = (0..number).map(|at| format!("t id workspace w{at}")).collect();
        build(&lines.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert!(hangs(MAX_HANGS).is_ok());
    assert_eq!(hangs(MAX_HANGS + 1).unwrap_err()[0].what, FaultKind::TooMany(MAX_HANGS));
}

#[test]
fn an_id_is_claimed_by_all_who_could_have_it() {
    let tree = build(&["a id workspace w doc:{id}", "b id workspace w {w}:{id}"]).unwrap();
    let claims = |target: &Target, id: &str| {
        let claims = tree.claims(target, id);
        claims.iter().map(|claim| (claim.node.name.to_string(), format!("{:?}", claim.reading))).collect::<Vec<_>>()
    };
    assert_eq!(
        claims(&Target::Liveblocks, "doc:1"),
        [("a".into(), r#"[("id", "1")]"#.into()), ("b".into(), r#"[("w", "doc"), ("id", "1")]"#.to_owned())]
    );
    assert!(claims(&Target::Liveblocks, "other").is_empty());
    assert!(claims(&Target::Step("search".into()), "doc:1").is_empty());
}

#[test]
fn an_id_is_as_long_as_its_target_allows() {
    let id = "x".repeat(MAX_ROOM_ID + 1);
    let pattern = Pattern::parse("{id}").unwrap();
    let render = |target| External { target, pattern: pattern.clone() }.render(|_| Some(&id));
    assert_eq!(render(Target::Liveblocks), Err(Unrendered::TooLong(MAX_ROOM_ID)));
    assert!(render(Target::Step("search".into())).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any entries give a tree in order, or faults; and a tree exactly if each table leads to a root and none to itself.
    #[test]
    fn children_come_before_parents(
        entries in proptest::collection::vec((0..8_usize, 0..11_usize, 0..2_usize), 1..14),
    ) {
        let parents = ["workspace", "organization", "user", "t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"];
        let all: Vec<Declared> =
            entries.iter().map(|(t, p, c)| declared(&format!("t{t} id {} c{c}", parents[*p]))).collect();
        // An independent opinion: take away, again and again, tables all of whose parents are roots or taken away.
        let mut left: BTreeSet<String> = all.iter().map(|entry| entry.table.clone()).collect();
        loop {
            let free = left.iter().find(|table| {
                all.iter().filter(|e| e.table == **table).all(|e| {
                    ["workspace", "organization", "user"].contains(&e.parent.as_str())
                        || (!left.contains(&e.parent) && all.iter().any(|other| other.table == e.parent))
                })
            });
            let Some(free) = free.cloned() else { break };
            left.remove(&free);
        }
        let twice = (0..all.len()).any(|at| all[..at].contains(&all[at]));
        match Tree::build(&all) {
            Ok(tree) => {
                prop_assert!(left.is_empty() && !twice);
                let order = names(tree.order());
                for entry in &all {
                    let at = |name: &str| order.iter().position(|known| known == name);
                    if let Some(parent) = at(&entry.parent) {
                        prop_assert!(at(&entry.table).unwrap() < parent);
                    }
                }
                for root in ROOTS {
                    let below = names(tree.below(root));
                    prop_assert!(order.iter().filter(|name| below.contains(name)).eq(&below));
                }
                prop_assert!(tree.order().iter().all(|node| !tree.roots(node).is_empty()));
            }
            Err(faults) => prop_assert!(!left.is_empty() || twice, "{:?}", faults),
        }
    }

    #[test]
    fn no_text_makes_it_panic(words in proptest::collection::vec("[a-c.{}\" ]{0,4}", 4..8)) {
        let entry = Declared {
            table: words[0].clone(),
            key: vec![words[1].clone()],
            parent: words[2].clone(),
            parent_key: words[3].clone(),
            external: words[4..].iter().map(|pattern| (Target::Liveblocks, pattern.clone())).collect(),
        };
        let _ = Tree::build(&[entry]);
    }
}
