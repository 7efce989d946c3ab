//! House rules: the modules of a crate form layers, and a type has a name of its own.
//!
//! **Layers.** No module uses, directly or through others, a module that uses it. The graph is read from the sources. An
//! edge is a path that begins with `crate`, `super` or `self`, in a `use` or not. Comments, texts and what is compiled for
//! tests only are left out. A path leads to the deepest module that it names. Where that module only imports the rest of the
//! path (`use`, `pub use`), the path leads on to the module that has it: a re-export hides no edge.
//!
//! Edges are between siblings: files and folders directly under `src/`, or directly in the same folder. A path from one folder
//! into another is an edge between the two folders, where their names part. A folder's `mod.rs` (for `src/`: `lib.rs`,
//! `main.rs`) is the parent of the files in it. Parent and child may use each other: what the parent defines itself is no
//! sibling's.
//!
//! A method is called without a path, so this graph does not see it.
//!
//! **Names.** Counted are all types outside of tests: `struct`, `enum`, `trait`, and `type` but for associated types. A name
//! that two of them have tells nobody which is meant. Some names are shared on purpose: what the contact cache's bed says of a
//! call is named as the client names it, and that bed and the library's have the same parts (a scenario, a history).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The folders of sources, one a crate.
const CRATES: [&str; 10] = [
    "src",
    "src/bin/contact-cache",
    "env/src",
    "sim/bed/src",
    "sim/contact/src",
    "sim/linearize/src",
    "sim/macros/src",
    "sim/protocol/src",
    "sim/redis/src",
    "sim/world/src",
];

/// How many of a hundred types may share their name with another.
const SHARED_PERCENT_MAX: usize = 5;

struct Source {
    file: String,
    /// The names of its module, from the root of the crate.
    module: Vec<String>,
    text: String,
}

impl Source {
    fn new(folder: &str, path: &str, text: String) -> Self {
        let mut module: Vec<_> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|name| ["lib", "main", "mod"].contains(&name.as_str())) {
            module.pop();
        }
        Self { file: format!("{folder}/{path}"), module, text }
    }
}

/// The sources of a crate. Another crate may lie inside of its folder.
fn sources(folder: &str) -> Vec<Source> {
    let folder_path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut sources = Vec::new();
    collect(&folder_path, "", &mut |path, text| {
        let is_inner_crate = |other: &&str| format!("{folder}/{path}").starts_with(&format!("{other}/"));
        if !CRATES.iter().filter(|other| other.len() > folder.len()).any(is_inner_crate) {
            sources.push(Source::new(folder, path, text));
        }
    });
    assert!(!sources.is_empty(), "{folder} has moved");
    sources
}

fn collect(folder: &Path, prefix: &str, take: &mut impl FnMut(&str, String)) {
    let entries = fs::read_dir(folder).expect("a folder of sources").map(|entry| entry.expect("an entry").path());
    for path in entries.collect::<BTreeSet<_>>() {
        let name = format!("{prefix}{}", path.file_name().expect("a name").display());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), take);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            take(&name, fs::read_to_string(&path).expect("a source file"));
        }
    }
}

/// A name, a number, `::` or a sign. Texts and comments are no tokens.
#[derive(Clone, Debug)]
struct Token<'a> {
    line: usize,
    text: &'a str,
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let (mut tokens, mut line, mut at) = (Vec::new(), 1, 0);
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let skipped = blank_len(rest);
        let len = skipped.unwrap_or_else(|| token_len(rest, first));
        if skipped.is_none() {
            tokens.push(Token { line, text: &rest[..len] });
        }
        line += rest[..len].matches('\n').count();
        at += len;
    }
    tokens
}

fn token_len(rest: &str, first: char) -> usize {
    if first.is_alphanumeric() || first == '_' {
        rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
    } else if rest.starts_with("::") {
        2
    } else {
        first.len_utf8()
    }
}

/// The length of the space, comment or text that `rest` begins with; none if it begins with a token.
fn blank_len(rest: &str) -> Option<usize> {
    let up_to = |end: &str, from: usize| rest[from..].find(end).map_or(rest.len(), |found| from + found + end.len());
    let first = rest.chars().next()?;
    if first.is_whitespace() {
        return Some(first.len_utf8());
    }
    if rest.starts_with("//") {
        return Some(up_to("\n", 0));
    }
    if rest.starts_with("/*") {
        return Some(up_to("*/", 2));
    }
    let raw = rest.strip_prefix('b').unwrap_or(rest);
    if let Some(hashes) =
        raw.strip_prefix('r').and_then(|raw| raw.find('"').filter(|found| raw[..*found].bytes().all(|b| b == b'#')))
    {
        let open = rest.len() - raw.len() + 1 + hashes + 1;
        return Some(up_to(&format!("\"{}", "#".repeat(hashes)), open));
    }
    if raw.starts_with('"') {
        return Some(rest.len() - raw.len() + quoted_len(raw, '"'));
    }
    // A lifetime has no second quote behind its first letter.
    let is_char = raw.strip_prefix('\'').is_some_and(|raw| raw.starts_with('\\') || raw.chars().nth(1) == Some('\''));
    is_char.then(|| rest.len() - raw.len() + quoted_len(raw, '\''))
}

fn quoted_len(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// The tokens without the items that are compiled for tests only, and the modules among those.
fn without_tests<'a>(tokens: &[Token<'a>]) -> (Vec<Token<'a>>, Vec<String>) {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut modules, mut at) = (Vec::new(), Vec::new(), 0);
    while at < tokens.len() {
        if !tokens[at..].iter().map(|token| token.text).take(MARK.len()).eq(MARK) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let item = &tokens[at + MARK.len()..];
        let len = item_len(item);
        let name = item[..len].iter().position(|token| token.text == "mod").and_then(|found| item.get(found + 1));
        if item[len - 1].text == ";" {
            modules.extend(name.map(|name| name.text.to_owned()));
        }
        at += MARK.len() + len;
    }
    (kept, modules)
}

/// The sources of what ships, each with its tokens: neither files nor items that are compiled for tests only.
fn shipped(sources: &[Source]) -> Vec<(&Source, Vec<Token<'_>>)> {
    let read: Vec<_> = sources.iter().map(|source| (source, without_tests(&tokens(&source.text)))).collect();
    let tests: BTreeSet<Vec<String>> = read
        .iter()
        .flat_map(|(parent, (_, tests))| {
            tests.iter().map(|name| [&parent.module[..], std::slice::from_ref(name)].concat())
        })
        .collect();
    let is_test = |module: &[String]| (1..=module.len()).any(|len| tests.contains(&module[..len]));
    let read = read.into_iter().filter(|(source, _)| !is_test(&source.module));
    read.map(|(source, (code, _))| (source, code)).collect()
}

/// How many tokens the first item has: up to its semicolon or its closing brace.
fn item_len(item: &[Token<'_>]) -> usize {
    let (mut depth, mut is_use) = (0_usize, false);
    for (at, token) in item.iter().enumerate() {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            "use" => is_use = true,
            _ => {}
        }
        if depth == 0 && (token.text == ";" || token.text == "}" && !is_use) {
            return at + 1;
        }
    }
    item.len()
}

/// The names of the types that these tokens define, and the line of each.
fn types<'a>(tokens: &[Token<'a>]) -> Vec<(&'a str, usize)> {
    let (mut types, mut depth) = (Vec::new(), 0_usize);
    for pair in tokens.windows(2) {
        match pair[0].text {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        let is_definition = match pair[0].text {
            "struct" | "enum" | "trait" => true,
            // Deeper ones are associated types.
            "type" => depth == 0,
            _ => false,
        };
        if is_definition && pair[1].text.starts_with(char::is_uppercase) {
            types.push((pair[1].text, pair[1].line));
        }
    }
    types
}

/// A path of the code, and the name that an import gives to its end.
struct Named<'a> {
    line: usize,
    path: Vec<&'a str>,
    imported_as: Option<&'a str>,
}

fn named<'a>(tokens: &[Token<'a>]) -> Vec<Named<'a>> {
    let (mut named, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let is_path = tokens.get(at + 1).is_some_and(|next| next.text == "::")
            && (at == 0 || tokens[at - 1].text != "::")
            && ["crate", "super", "self"].contains(&tokens[at].text);
        if tokens[at].text == "use" && tokens.get(at + 1).is_some_and(|next| next.text != "<") {
            at += 1 + tree(&tokens[at + 1..], &[], &mut named);
        } else if is_path {
            let line = tokens[at].line;
            let mut path = vec![tokens[at].text];
            while tokens.get(at + 1).is_some_and(|next| next.text == "::")
                && tokens.get(at + 2).is_some_and(|next| next.text.starts_with(|c: char| c.is_alphabetic() || c == '_'))
            {
                path.push(tokens[at + 2].text);
                at += 2;
            }
            at += 1;
            named.push(Named { line, path, imported_as: None });
        } else {
            at += 1;
        }
    }
    named
}

/// Reads a tree of imports, and says how many tokens it has.
fn tree<'a>(tokens: &[Token<'a>], prefix: &[&'a str], named: &mut Vec<Named<'a>>) -> usize {
    let (mut path, mut at, mut alias) = (prefix.to_vec(), 0, None);
    let line = tokens.first().map_or(0, |token| token.line);
    while let Some(token) = tokens.get(at) {
        match token.text {
            "::" => at += 1,
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    at += tree(&tokens[at..], &path, named);
                    at += usize::from(tokens.get(at).is_some_and(|token| token.text == ","));
                }
                return at + 1;
            }
            "as" => {
                alias = tokens.get(at + 1).map(|token| token.text);
                at += 2;
            }
            "," | ";" | "}" => break,
            // `self` at the end of a tree is what the tree is of.
            "self" if !path.is_empty() => at += 1,
            "*" => {
                alias = Some("*");
                at += 1;
            }
            name => {
                path.push(name);
                at += 1;
            }
        }
    }
    let imported_as = alias.or(path.last().copied());
    named.push(Named { line, path, imported_as });
    at
}

/// What a crate's files say of each other.
struct Graph {
    modules: BTreeSet<Vec<String>>,
    /// For each module, the names that it imports, and the path of each from the root of the crate.
    imports: BTreeMap<Vec<String>, BTreeMap<String, Vec<String>>>,
    /// Paths to other places of the crate: from which module, at which line of which file, where to.
    paths: Vec<(Vec<String>, String, Vec<String>)>,
}

/// The edges among the parts of one folder, and where each is.
type Edges = BTreeMap<(String, String), Vec<String>>;

impl Graph {
    fn of(sources: &[Source]) -> Self {
        let shipped = shipped(sources);
        let modules = shipped.iter().map(|(source, _)| source.module.clone()).collect();
        let mut graph = Self { modules, imports: BTreeMap::new(), paths: Vec::new() };
        for (source, code) in shipped {
            for Named { line, path, imported_as } in named(&code) {
                let Some(absolute) = graph.absolute(&source.module, &path) else { continue };
                if let Some(name) = imported_as {
                    let imports = graph.imports.entry(source.module.clone()).or_default();
                    imports.insert(name.to_owned(), absolute.clone());
                }
                graph.paths.push((source.module.clone(), format!("{}:{line}", source.file), absolute));
            }
        }
        graph
    }

    /// The path from the root of the crate; none if it leads to another crate.
    fn absolute(&self, module: &[String], path: &[&str]) -> Option<Vec<String>> {
        let (mut from, mut rest) = match path.first()? {
            &"crate" => (Vec::new(), &path[1..]),
            &"self" => (module.to_vec(), &path[1..]),
            &"super" => (module.to_vec(), path),
            part => {
                let child = [module, &[(*part).to_owned()]].concat();
                (module.to_vec(), self.modules.contains(&child).then_some(path)?)
            }
        };
        while let Some((&"super", behind)) = rest.split_first() {
            from.pop();
            rest = behind;
        }
        from.extend(rest.iter().map(|part| (*part).to_owned()));
        Some(from)
    }

    /// The module that has what is at the end of the path.
    fn target(&self, path: &[String]) -> Vec<String> {
        let mut path = path.to_vec();
        // Each turn follows one import.
        for _ in 0..8 {
            let len = (0..=path.len()).rev().find(|len| self.modules.contains(&path[..*len])).unwrap_or(0);
            let imported = path.get(len).and_then(|name| self.imports.get(&path[..len])?.get(name));
            match imported {
                Some(whole) if *whole != path[..=len] => path = [whole, &path[len + 1..]].concat(),
                _ => return path[..len].to_vec(),
            }
        }
        path
    }

    /// The edges between siblings, by the folder that has both.
    fn edges(&self) -> BTreeMap<Vec<String>, Edges> {
        let mut folders: BTreeMap<_, Edges> = BTreeMap::new();
        for (from, place, path) in &self.paths {
            let to = self.target(path);
            let same = from.iter().zip(&to).take_while(|(from, to)| from == to).count();
            if let (Some(part), Some(other)) = (from.get(same), to.get(same)) {
                let folder = folders.entry(from[..same].to_vec()).or_default();
                let places = folder.entry((part.clone(), other.clone())).or_default();
                places.push(format!("{place} {}", path.join("::")));
            }
        }
        folders
    }

    /// The cycles, each with its parts and with all edges between them.
    fn cycles(&self) -> Vec<Cycle> {
        let mut cycles = Vec::new();
        for (folder, edges) in self.edges() {
            for parts in components(&edges) {
                let inside = edges.iter().filter(|((from, to), _)| parts.contains(from) && parts.contains(to));
                let lines = inside.flat_map(|((from, to), places)| {
                    places.iter().map(move |place| format!("{from} -> {to} at {place}"))
                });
                let folder = folder.iter().flat_map(|part| [part.as_str(), "/"]).collect();
                cycles.push(Cycle { folder, lines: lines.collect(), parts });
            }
        }
        cycles
    }
}

#[derive(Debug)]
struct Cycle {
    folder: String,
    parts: BTreeSet<String>,
    lines: Vec<String>,
}

/// The strongly connected components that have more than one part.
fn components(edges: &Edges) -> Vec<BTreeSet<String>> {
    let parts: BTreeSet<_> = edges.keys().map(|(from, _)| from).collect();
    let reached: BTreeMap<_, _> = parts.into_iter().map(|part| (part, reached(edges, part))).collect();
    let mut components: Vec<BTreeSet<String>> = Vec::new();
    for (part, reaches) in &reached {
        let is_back = |other: &&String| reached.get(other).is_some_and(|back| back.contains(*part));
        let component: BTreeSet<_> = reaches.iter().filter(is_back).cloned().collect();
        if component.len() > 1 && !components.contains(&component) {
            components.push(component);
        }
    }
    components
}

/// What can be reached from a part over one edge or more.
fn reached(edges: &Edges, part: &String) -> BTreeSet<String> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![part]);
    while let Some(part) = open.pop() {
        let next = edges.keys().filter(|(from, _)| from == part).map(|(_, to)| to);
        open.extend(next.filter(|to| reached.insert((*to).clone())));
    }
    reached
}

#[test]
fn the_modules_of_a_crate_form_layers() {
    let mut wrong = Vec::new();
    for folder in CRATES {
        for Cycle { folder: inside, parts, lines } in Graph::of(&sources(folder)).cycles() {
            let parts = parts.into_iter().collect::<Vec<_>>().join(", ");
            wrong.push(format!("{folder}/{inside}: {parts}\n    {}", lines.join("\n    ")));
        }
    }
    assert!(wrong.is_empty(), "{} cycles; move what both sides use below them:\n  {}", wrong.len(), wrong.join("\n  "));
}

fn made_up(sources: &[(&str, &str)]) -> Vec<Cycle> {
    let sources: Vec<_> = sources.iter().map(|(path, text)| Source::new("src", path, (*text).to_owned())).collect();
    Graph::of(&sources).cycles()
}

#[test]
fn a_cycle_is_found_with_the_line_of_each_edge() {
    let cycles = made_up(&[
        ("lib.rs", "mod a;\nmod b;\nmod c;\n"),
        ("a.rs", "use crate::{\n    b::B,\n    Root,\n};\n"),
        ("b/mod.rs", "mod inside;\n"),
        ("b/inside.rs", "fn f() -> crate::c::C { panic!() }\n"),
        ("c.rs", "use super::a as first;\n"),
        ("d.rs", "use crate::{a, b, c};\n"),
    ]);
    let [cycle] = cycles.as_slice() else { panic!("{cycles:?}") };
    assert!(cycle.folder.is_empty() && cycle.parts.iter().eq(["a", "b", "c"]), "{cycle:?}");
    let edges = ["a -> b at src/a.rs:2 b::B", "b -> c at src/b/inside.rs:1 c::C", "c -> a at src/c.rs:1 a"];
    assert_eq!(cycle.lines, edges);
}

#[test]
fn a_re_export_hides_no_edge() {
    let cycles = made_up(&[
        ("outer/mod.rs", "mod a;\nmod b;\npub(crate) use self::b::{B as Other, C};\nuse a::A;\n"),
        ("outer/a.rs", "use super::Other;\n"),
        ("outer/b.rs", "use super::A;\n"),
    ]);
    let [cycle] = cycles.as_slice() else { panic!("{cycles:?}") };
    assert!(cycle.folder == "outer/" && cycle.parts.iter().eq(["a", "b"]), "{cycle:?}");
}

#[test]
fn parents_and_children_tests_comments_and_texts_make_no_cycle() {
    let cycles = made_up(&[
        ("lib.rs", "mod a;\nmod b;\n#[cfg(test)]\nmod trial;\n"),
        ("a/mod.rs", "mod child;\npub struct A(child::Child);\nuse crate::b::B;\n"),
        ("a/child.rs", "use super::A;\npub struct Child;\n"),
        (
            "b.rs",
            "// crate::a::A\nconst T: &str = r#\"crate::a \" \\\"#;\nconst Q: char = '\"';\n\n#[cfg(test)]\nuse crate::a::{A};\n\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n",
        ),
        ("trial.rs", "use crate::a::A;\n"),
    ]);
    assert!(cycles.is_empty(), "{cycles:?}");
}

/// The names that more than one type of these crates has, each with its places; and how many types there are.
fn shared_names(crates: &[Vec<Source>]) -> (BTreeMap<String, Vec<String>>, usize) {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (source, code) in crates.iter().flat_map(|sources| shipped(sources)) {
        for (name, line) in types(&code) {
            places.entry(name.to_owned()).or_default().push(format!("{}:{line}", source.file));
        }
    }
    let count = places.values().map(Vec::len).sum();
    places.retain(|_, places| places.len() > 1);
    (places, count)
}

#[test]
fn nearly_every_type_has_a_name_of_its_own() {
    let (shared, count) = shared_names(&CRATES.map(sources));
    assert!(count > 700, "only {count} types were found");
    let sharing: usize = shared.values().map(Vec::len).sum();
    let lines: Vec<_> = shared.iter().map(|(name, places)| format!("{name}: {}", places.join(", "))).collect();
    let list = format!("{sharing} of {count} types share a name:\n  {}", lines.join("\n  "));
    println!("{list}");
    assert!(sharing * 100 <= count * SHARED_PERCENT_MAX, "more than {SHARED_PERCENT_MAX} % share, rename some; {list}");
}

#[test]
fn a_shared_name_is_found_with_its_places() {
    let source = |path: &str, text: &str| Source::new("src", path, text.to_owned());
    let first = vec![
        source(
            "lib.rs",
            "struct A;\nimpl Iterator for A {\n    type Item = u8;\n}\n#[cfg(test)]\nmod tests {\n    struct A;\n}\n",
        ),
        source("b.rs", "// struct A;\npub(crate) enum A<T> { B(T) }\nfn f() {\n    struct Item;\n}\n"),
    ];
    let second = vec![source("lib.rs", "pub trait C: Sized {}\ntype A = u8;\n")];
    let (shared, count) = shared_names(&[first, second]);
    assert_eq!(count, 5);
    assert_eq!(
        shared,
        BTreeMap::from([("A".to_owned(), ["src/lib.rs:1", "src/b.rs:2", "src/lib.rs:2"].map(str::to_owned).to_vec())])
    );
}
