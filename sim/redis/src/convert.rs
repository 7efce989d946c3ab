//! Values between Lua and RESP2, by Redis's rules.
//!
//! To Lua: an integer is a number, a bulk string a string, a status a table with `ok`, null is false. From Lua: a number
//! is cut off to an integer, true is 1, false and nil are null, a table with `err` or `ok` is an error or a status, and
//! any other is an array up to its first nil. Tables for RESP3 (`double`, `map`, `set`, `big_number`,
//! `verbatim_string`) answer in their RESP2 forms.

use std::borrow::Cow;

use mlua::{Lua, LuaString, Result, Table, Value};

use super::{number, reply};

/// How deep a script's answer may be nested. Redis gives up at 7,995 levels, which is more than the stack of a test's
/// thread has room for.
const DEPTH_MAX: usize = 500;

/// The keys that make a table more than an array, as Lua strings made once.
pub(super) struct Marks {
    err: LuaString,
    ok: LuaString,
    others: [LuaString; 5],
}

impl Marks {
    pub(super) fn new(lua: &Lua) -> Result<Self> {
        let mark = |name: &str| lua.create_string(name);
        Ok(Self {
            err: mark("err")?,
            ok: mark("ok")?,
            others: [mark("double")?, mark("map")?, mark("set")?, mark("big_number")?, mark("verbatim_string")?],
        })
    }
}

/// The first reply in `bytes` as a Lua value, which is taken off them. Errors are the caller's.
pub(super) fn to_lua(lua: &Lua, bytes: &mut &[u8]) -> Result<Value> {
    let (kind, text) = take_line(bytes);
    let count = || number::parse(text).and_then(|count| usize::try_from(count).ok());
    match kind {
        b':' => {
            #[expect(clippy::cast_precision_loss, reason = "numbers of Lua 5.1 are floats, and lose what Redis's lose")]
            let value = number::parse(text).unwrap_or(0) as f64;
            Ok(Value::Number(value))
        }
        b'$' => match count() {
            Some(length) if length + 2 <= bytes.len() => {
                let string = lua.create_string(&bytes[..length])?;
                *bytes = &bytes[length + 2..];
                Ok(Value::String(string))
            }
            _ => Ok(Value::Boolean(false)),
        },
        b'*' => match count() {
            Some(count) => {
                let table = lua.create_table_with_capacity(count, 0)?;
                for at in 1..=count {
                    table.raw_set(at, to_lua(lua, bytes)?)?;
                }
                Ok(Value::Table(table))
            }
            None => Ok(Value::Boolean(false)),
        },
        _ => {
            let table = lua.create_table_with_capacity(0, 1)?;
            table.raw_set("ok", lua.create_string(text)?)?;
            Ok(Value::Table(table))
        }
    }
}

/// Appends what a script answered.
pub(super) fn to_reply(marks: &Marks, value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<()> {
    match value {
        Value::String(text) => reply::bulk(out, &text.as_bytes()),
        Value::Integer(value) => reply::integer(out, *value),
        Value::Number(value) => reply::integer(out, number::truncate(*value)),
        Value::Boolean(true) => reply::integer(out, 1),
        Value::Table(_) if depth >= DEPTH_MAX => reply::error(out, "ERR reached lua stack limit"),
        Value::Table(table) => {
            if !marked(marks, table, depth, out)? {
                // One value at a time: all values of a large record at once do not fit on Lua's stack.
                let (mut count, mut items) = (0, Vec::new());
                loop {
                    match table.raw_get(count + 1)? {
                        Value::Nil => break,
                        item => to_reply(marks, &item, depth + 1, &mut items)?,
                    }
                    count += 1;
                }
                reply::array(out, count);
                out.append(&mut items);
            }
        }
        _ => reply::null(out),
    }
    Ok(())
}

/// A value as a word of a command; none if it is neither string nor number.
pub(super) fn to_word(value: &Value) -> Option<Cow<'static, [u8]>> {
    match value {
        Value::String(text) => Some(Cow::Owned(text.as_bytes().to_vec())),
        // Beyond 17 digits, `%.17g` turns to the form with an exponent.
        Value::Integer(value) if value.unsigned_abs() < 100_000_000_000_000_000 => {
            Some(Cow::Owned(value.to_string().into_bytes()))
        }
        #[expect(clippy::cast_precision_loss, reason = "it was a float before it came here")]
        Value::Integer(value) => Some(Cow::Owned(number::format_g17(*value as f64).into_bytes())),
        Value::Number(value) => Some(Cow::Owned(number::format_g17(*value).into_bytes())),
        _ => None,
    }
}

/// Appends a table that is not an array; answers whether it was one.
fn marked(marks: &Marks, table: &Table, depth: usize, out: &mut Vec<u8>) -> Result<bool> {
    if let Value::String(text) = table.raw_get(&marks.err)? {
        reply::error_format(out, &[reply::c_string(&text.as_bytes())]);
        return Ok(true);
    }
    if let Value::String(text) = table.raw_get(&marks.ok)? {
        reply::status(out, &reply::on_one_line(reply::c_string(&text.as_bytes())));
        return Ok(true);
    }
    let [double, map, set, big_number, verbatim] = &marks.others;
    match table.raw_get(double)? {
        #[expect(clippy::cast_precision_loss, reason = "it was a float before it came here")]
        Value::Integer(value) => return Ok(bulk(out, number::format_g17(value as f64).as_bytes())),
        Value::Number(value) => return Ok(bulk(out, number::format_g17(value).as_bytes())),
        _ => {}
    }
    for (mark, with_values) in [(map, true), (set, false)] {
        if let Value::Table(members) = table.raw_get(mark)? {
            let members: Vec<(Value, Value)> = members.pairs().collect::<Result<_>>()?;
            reply::array(out, members.len() * (1 + usize::from(with_values)));
            for (key, value) in &members {
                to_reply(marks, key, depth + 1, out)?;
                if with_values {
                    to_reply(marks, value, depth + 1, out)?;
                }
            }
            return Ok(true);
        }
    }
    if let Value::String(text) = table.raw_get(big_number)? {
        return Ok(bulk(out, &reply::on_one_line(&text.as_bytes())));
    }
    if let Value::Table(parts) = table.raw_get(verbatim)?
        && let Value::String(text) = parts.raw_get("string")?
    {
        return Ok(bulk(out, &text.as_bytes()));
    }
    Ok(false)
}

fn bulk(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    reply::bulk(out, bytes);
    true
}

/// The kind and the text of the first line, which is taken off the bytes.
fn take_line<'a>(bytes: &mut &'a [u8]) -> (u8, &'a [u8]) {
    let Some((&kind, rest)) = bytes.split_first() else { return (b'$', b"-1") };
    let end = rest.iter().position(|&byte| byte == b'\r').unwrap_or(rest.len());
    *bytes = rest.get(end + 2..).unwrap_or_default();
    (kind, &rest[..end])
}
