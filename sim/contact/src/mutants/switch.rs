//! Many planted bugs in one program, one of them in force at a time: the one that an environment variable names.
//!
//! A bug that only changes bodies of functions, or adds functions, becomes a branch in the changed functions:
//!
//! ```text
//! fn age(&self) -> u64 { if crate::planted::is(3) { /* as the patch has it */ } else { /* as it is */ } }
//! ```
//!
//! Bodies are copied whole and verbatim, so that the program runs the code of the patch. A text that is not Rust, like the
//! script of the client, is included once for each variant, by a function. A bug that changes types, constants or signatures
//! cannot be switched on: it is built alone.

use std::{collections::BTreeMap, fmt::Write as _, ops::Range, path::Path};

use quote::ToTokens as _;
use syn::{Block, ImplItem, Item, Signature, TraitItem, spanned::Spanned as _};

/// The variable that names the bug in force.
pub(super) const VARIABLE: &str = "SEEDBED_PLANTED";

/// Why a bug cannot be switched on.
pub(super) type Why = String;

/// The changes of one bug to a Rust file.
pub(super) struct Edit {
    /// The place of each function body that it changes, and the new body.
    bodies: Vec<(Range<usize>, String)>,
    /// The place of each function that it adds, and the function.
    added: Vec<(usize, String)>,
}

/// Compares a Rust file with its variant that has a bug.
pub(super) fn edit(file: &str, variant: &str) -> Result<Edit, Why> {
    let (old, new) = (Outline::of(file)?, Outline::of(variant)?);
    if let Some(item) = old.others.iter().find(|item| !new.others.contains(*item)) {
        return Err(format!("it changes `{}`", beginning(item)));
    }
    if let Some(item) = new.others.iter().find(|item| !old.others.contains(*item)) {
        return Err(format!("it has `{}`", beginning(item)));
    }
    if let Some(name) = old.functions.keys().find(|name| !new.functions.contains_key(*name)) {
        return Err(format!("it takes `{name}` out"));
    }
    let mut edit = Edit { bodies: Vec::new(), added: Vec::new() };
    for (name, function) in &new.functions {
        let Some(before) = old.functions.get(name) else {
            let place = old.blocks.get(&function.block).ok_or_else(|| format!("it has `{}`", function.block))?;
            edit.added.push((*place, variant[function.whole.clone()].to_owned()));
            continue;
        };
        if before.signature != function.signature {
            return Err(format!("it changes the signature of `{name}`"));
        }
        if before.tokens == function.tokens {
            continue;
        }
        if before.is_const {
            return Err(format!("`{name}` is a const fn"));
        }
        edit.bodies.push((before.body.clone(), variant[function.body.clone()].to_owned()));
    }
    Ok(edit)
}

impl Edit {
    /// Whether the bug changes comments and imports of the file alone.
    pub(super) fn is_empty(&self) -> bool {
        self.bodies.is_empty() && self.added.is_empty()
    }
}

/// The file with all edits, by the number of their bug; and the lines that belong to each, or to all that change a function.
pub(super) fn switched(file: &str, edits: &BTreeMap<usize, Edit>) -> (String, Vec<(Range<usize>, usize)>) {
    let mut changed = BTreeMap::<(usize, usize), Vec<(usize, &str)>>::new();
    for (&number, edit) in edits {
        for (at, body) in &edit.bodies {
            changed.entry((at.start, at.end)).or_default().push((number, body));
        }
        for (at, function) in &edit.added {
            changed.entry((*at, *at)).or_default().push((number, function));
        }
    }
    let (mut text, mut lines, mut done) = (String::new(), Vec::new(), 0);
    let line = |text: &str| 1 + text.matches('\n').count();
    for ((start, end), variants) in changed {
        text.push_str(&file[done..start]);
        done = end;
        if start == end {
            for (number, function) in variants {
                let begun = line(&text);
                let _ = writeln!(text, "\n{function}");
                lines.push((begun..line(&text), number));
            }
            continue;
        }
        text.push_str("{\n");
        for (number, body) in &variants {
            let begun = line(&text);
            let _ = writeln!(text, "if crate::planted::is({number}) {body} else");
            lines.push((begun..line(&text), *number));
        }
        let begun = line(&text);
        let _ = write!(text, "{}\n}}", &file[start..end]);
        // Branches of two types: the compiler complains about the last one, which is good by itself.
        lines.extend(variants.iter().map(|(number, _)| (begun..line(&text), *number)));
    }
    text.push_str(&file[done..]);
    (text, lines)
}

/// A Rust file that includes another file, with a branch for each variant of that. `included` is the name as it is written there.
/// `None` if the file does not include that name, or includes it outside of a function.
pub(super) fn with_text(file: &str, included: &str, variants: &[usize]) -> Option<String> {
    let inclusion = format!("include_str!({included:?})");
    let outline = Outline::of(file).ok()?;
    let mut places = file.match_indices(&inclusion).map(|(at, _)| at).peekable();
    places.peek()?;
    let is_within = |at: usize| outline.functions.values().any(|function| function.body.contains(&at));
    if !places.all(is_within) {
        return None;
    }
    let mut arms = String::new();
    for &number in variants {
        let variant = name_of_text(included, number);
        let _ = write!(arms, "if crate::planted::is({number}) {{ include_str!({variant:?}) }} else ");
    }
    Some(file.replace(&inclusion, &format!("({arms}{{ {inclusion} }})")))
}

/// The name of a variant of an included text, beside it.
pub(super) fn name_of_text(included: &str, number: usize) -> String {
    let path = Path::new(included);
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    path.with_extension(format!("{number}.{extension}")).to_string_lossy().into_owned()
}

/// The module that knows which bug is in force.
pub(super) fn module(names: &[&str]) -> String {
    format!(
        r#"
/// Planted bugs: which one is in force.
mod planted {{
    static NUMBER: std::sync::LazyLock<usize> = std::sync::LazyLock::new(|| {{
        let name = std::env::var("{VARIABLE}").unwrap_or_default();
        let found = NAMES.iter().position(|known| *known == name);
        assert!(found.is_some() || name.is_empty(), "{VARIABLE} is {{name:?}}: there are {{NAMES:?}}");
        found.unwrap_or(usize::MAX)
    }});
    const NAMES: [&str; {}] = {names:?};
    pub(crate) fn is(number: usize) -> bool {{
        *NUMBER == number
    }}
}}
"#,
        names.len()
    )
}

/// The functions of a file, and all else that is in it.
#[derive(Default)]
struct Outline {
    /// By the block that they are in and their name.
    functions: BTreeMap<String, Function>,
    /// Where a function can be added, by the block: the file, a module, an implementation.
    blocks: BTreeMap<String, usize>,
    /// All other items, and the heads of blocks. Imports are left out: one that a bug makes unused does no harm, and the compiler
    /// reports one that a bug needs in addition.
    others: Vec<String>,
}

struct Function {
    block: String,
    signature: String,
    tokens: String,
    is_const: bool,
    body: Range<usize>,
    whole: Range<usize>,
}

impl Outline {
    fn of(text: &str) -> Result<Self, Why> {
        let file = syn::parse_file(text).map_err(|error| format!("it is no Rust: {error}"))?;
        let mut outline = Self::default();
        outline.blocks.insert(String::new(), text.len());
        outline.items(&file.items, "")?;
        Ok(outline)
    }

    fn items(&mut self, items: &[Item], block: &str) -> Result<(), Why> {
        for item in items {
            match item {
                Item::Use(_) => {}
                Item::Fn(function) => {
                    self.function(block, &function.sig, &function.block, function.span().byte_range())?;
                }
                Item::Mod(module) if module.content.is_some() => {
                    let (braces, items) = module.content.as_ref().expect("it was looked at");
                    let name = format!("{block}mod {}::", module.ident);
                    self.block(&name, braces.span.close().byte_range().start);
                    self.items(items, &name)?;
                }
                Item::Impl(block_of) => {
                    let mut head = block_of.clone();
                    head.items.clear();
                    head.attrs.clear();
                    let head = head.to_token_stream().to_string();
                    let name = format!("{block}{}::", head.trim_end_matches(['{', '}', ' ']));
                    self.block(&name, block_of.brace_token.span.close().byte_range().start);
                    for item in &block_of.items {
                        match item {
                            ImplItem::Fn(function) => {
                                self.function(&name, &function.sig, &function.block, function.span().byte_range())?;
                            }
                            other => self.others.push(format!("{name}{}", other.to_token_stream())),
                        }
                    }
                }
                Item::Trait(the_trait) => {
                    let name = format!("{block}trait {}::", the_trait.ident);
                    for item in &the_trait.items {
                        match item {
                            TraitItem::Fn(function) if function.default.is_some() => {
                                let body = function.default.as_ref().expect("it was looked at");
                                self.function(&name, &function.sig, body, function.span().byte_range())?;
                            }
                            other => self.others.push(format!("{name}{}", other.to_token_stream())),
                        }
                    }
                }
                other => self.others.push(format!("{block}{}", other.to_token_stream())),
            }
        }
        Ok(())
    }

    /// Keeps the last block of a name: a file may implement a type in several blocks.
    fn block(&mut self, name: &str, end: usize) {
        self.blocks.insert(name.to_owned(), end);
        self.others.push(name.to_owned());
    }

    fn function(&mut self, block: &str, signature: &Signature, body: &Block, whole: Range<usize>) -> Result<(), Why> {
        let name = format!("{block}{}", signature.ident);
        let braces = body.brace_token.span;
        let function = Function {
            block: block.to_owned(),
            signature: signature.to_token_stream().to_string(),
            tokens: body.to_token_stream().to_string(),
            is_const: signature.constness.is_some(),
            body: braces.open().byte_range().start..braces.close().byte_range().end,
            whole,
        };
        match self.functions.insert(name.clone(), function) {
            None => Ok(()),
            Some(_) => Err(format!("`{name}` is there twice")),
        }
    }
}

/// Enough of an item to find it by.
fn beginning(item: &str) -> String {
    item.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "use std::fmt;\n\nstruct Copy { age: u64 }\n\nimpl Copy {\n    /// In seconds.\n    fn age(&self) -> u64 {\n        \
                        self.age\n    }\n}\n\nconst fn limit() -> u64 {\n    7\n}\n";

    fn joined(variants: &[String]) -> (String, Vec<(Range<usize>, usize)>) {
        let edits = variants.iter().map(|variant| edit(FILE, variant).expect("it can be a branch")).enumerate();
        switched(FILE, &edits.collect())
    }

    #[test]
    fn two_bugs_of_one_function_are_two_branches_of_it() {
        let (text, lines) = joined(&[FILE.replace("self.age\n", "0\n"), FILE.replace("self.age\n", "self.age + 1\n")]);
        let body = "fn age(&self) -> u64 {\nif crate::planted::is(0) {\n        0\n    } else\n\
                    if crate::planted::is(1) {\n        self.age + 1\n    } else\n{\n        self.age\n    }\n}\n";
        assert!(text.contains(body), "{text}");
        assert_eq!(lines, [(8..11, 0), (11..14, 1), (14..17, 0), (14..17, 1)]);
        assert!(syn::parse_file(&text).is_ok(), "{text}");
    }

    #[test]
    fn a_function_that_only_a_bug_has_is_added_to_its_block() {
        let new = "self.older()\n    }\n\n    fn older(&self) -> u64 {\n        self.age * 2\n";
        let (text, lines) = joined(&[FILE.replace("self.age\n", new)]);
        let outline = Outline::of(&text).expect("it is Rust");
        assert!(outline.functions.contains_key("impl Copy::older"), "{text}");
        assert_eq!(lines.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [0, 0, 0]);
    }

    #[test]
    fn a_file_without_bugs_is_as_it_was() {
        assert_eq!(joined(&[]).0, FILE);
        assert_eq!(joined(&[FILE.replace("In seconds", "In days").replace("use std::fmt;", "")]).0, FILE);
    }

    #[test]
    fn what_cannot_be_a_branch_is_named() {
        for (old, new, why) in [
            ("age: u64 }", "age: u32 }", "it changes `struct Copy"),
            ("fn age(&self) -> u64", "fn age(&self) -> u32", "it changes the signature of `impl Copy::age`"),
            ("    7\n", "    8\n", "`limit` is a const fn"),
            ("impl Copy", "const X: u64 = 3;\n\nimpl Copy", "it has `const X"),
            ("impl Copy", "impl Clone for Copy", "it changes `impl Copy"),
            ("const fn limit() -> u64 {\n    7\n}\n", "", "it takes `limit` out"),
            ("self.age\n", "self.age(\n", "it is no Rust"),
        ] {
            let said = edit(FILE, &FILE.replace(old, new)).err().expect("it is refused");
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_text_is_included_with_its_variants_by_a_function_only() {
        let file = "fn source() -> &'static str {\n    include_str!(\"merge.lua\")\n}\n";
        let text = with_text(file, "merge.lua", &[4]).expect("a function includes it");
        let branch =
            "(if crate::planted::is(4) { include_str!(\"merge.4.lua\") } else { include_str!(\"merge.lua\") })";
        assert!(text.contains(branch), "{text}");
        assert_eq!(with_text("const SOURCE: &str = include_str!(\"merge.lua\");", "merge.lua", &[4]), None);
        assert_eq!(with_text(file, "other.lua", &[4]), None);
    }
}
