//! Numbers with a fraction as Redis reads and writes them: scores are C's `double`, and INCRBYFLOAT works on x86's `long double`.
//!
//! A [`LongDouble`] has a mantissa of 64 bits. Rust has no such type, and results of INCRBYFLOAT are compared with a real server to the
//! last digit, so the three operations that Redis needs are here: from decimal text, a sum, and to decimal text. Each is exact
//! but for one rounding to the nearest, as in the C library.

use std::cmp::Ordering;

/// Redis reads no longer text as a `long double` (`MAX_LONG_DOUBLE_CHARS`).
const TEXT_BYTES_MAX: usize = 5 * 1024;
/// The exponent of the last bit of the smallest `long double`, and of the largest one.
const EXPONENT_MIN: i64 = -16_445;
const EXPONENT_MAX: i64 = 16_320;
/// Decimal exponents beyond this overflow or underflow every format here.
const DECIMAL_MAX: i64 = 6_000;

/// A `double` as Redis's `getDoubleFromObject` takes it: all of the text, in range, and not NaN.
pub(super) fn parse(text: &[u8]) -> Option<f64> {
    if text.first().is_some_and(|byte| is_space(*byte)) {
        return None;
    }
    let (value, is_exact_kind) = read(text)?;
    // strtod tells of an overflow and of an underflow to zero; a small value that is not zero passes.
    let is_out_of_range = !is_exact_kind && (value.is_infinite() || (value == 0.0 && has_digits_above_zero(text)));
    (!value.is_nan() && !is_out_of_range).then_some(value)
}

/// A bound of a range of scores, which Redis gives to `strtod` as it is: spaces before it pass, nothing is 0, a zero byte ends it.
pub(super) fn parse_bound(text: &[u8]) -> Option<f64> {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some(0.0);
    }
    let start = text.iter().position(|&byte| !is_space(byte)).unwrap_or(text.len());
    read(&text[start..]).map(|(value, _)| value).filter(|value| !value.is_nan())
}

/// What C's `isspace` holds for a space.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// The nearest `double` to a text, and whether it says that it is infinite.
fn read(text: &[u8]) -> Option<(f64, bool)> {
    let (negative, digits) = unsigned(text);
    if let Some(hex) = without_hex_mark(digits) {
        let (mantissa, exponent) = read_hex(hex)?;
        let value = scaled(mantissa, exponent);
        return Some((if negative { -value } else { value }, false));
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some((value, is_infinity(digits)))
}

fn unsigned(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

fn is_infinity(digits: &[u8]) -> bool {
    digits.eq_ignore_ascii_case(b"inf") || digits.eq_ignore_ascii_case(b"infinity")
}

fn without_hex_mark(digits: &[u8]) -> Option<&[u8]> {
    digits.strip_prefix(b"0x").or_else(|| digits.strip_prefix(b"0X"))
}

fn has_digits_above_zero(text: &[u8]) -> bool {
    let (_, digits) = unsigned(text);
    let (digits, mark) = without_hex_mark(digits).map_or((digits, b'e'), |hex| (hex, b'p'));
    let digits = digits.split(|byte| byte.eq_ignore_ascii_case(&mark)).next().unwrap_or_default();
    digits.iter().any(|byte| byte.is_ascii_hexdigit() && *byte != b'0')
}

/// The digits of `1f.8p3` as a number with its lowest bit set if more follow, and the power of two that it is multiplied with.
fn read_hex(text: &[u8]) -> Option<(u128, i64)> {
    let (digits, mut exponent) = split_exponent(text, b'p')?;
    let (mut mantissa, mut has_point, mut count) = (0_u128, false, 0);
    for byte in digits {
        if *byte == b'.' && !has_point {
            has_point = true;
            continue;
        }
        let digit = char::from(*byte).to_digit(16)?;
        count += 1;
        if mantissa >> 120 == 0 {
            mantissa = mantissa << 4 | u128::from(digit);
            exponent -= if has_point { 4 } else { 0 };
        } else {
            mantissa |= u128::from(digit != 0);
            exponent += if has_point { 0 } else { 4 };
        }
    }
    (count > 0).then_some((mantissa, exponent))
}

/// The digits before the mark of the exponent, and the exponent.
fn split_exponent(text: &[u8], mark: u8) -> Option<(&[u8], i64)> {
    let Some(at) = text.iter().position(|byte| byte.eq_ignore_ascii_case(&mark)) else { return Some((text, 0)) };
    let (negative, digits) = unsigned(&text[at + 1..]);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // More than nine digits are beyond every range.
    let first = digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len());
    let significant = &digits[first..];
    let size = match significant.len() {
        0 => 0,
        1..=9 => std::str::from_utf8(significant).ok()?.parse().ok()?,
        _ => 1_000_000_000,
    };
    Some((&text[..at], if negative { -size } else { size }))
}

/// `mantissa` times two to the power of `exponent`.
fn scaled(mantissa: u128, exponent: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "it rounds to the nearest, as strtod does")]
    let mut value = mantissa as f64;
    let step = if exponent < 0 { 0.5 } else { 2.0 };
    for _ in 0..exponent.unsigned_abs().min(2_500) {
        value *= step;
    }
    value
}

/// A `long double` of x86 that is not NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LongDouble {
    negative: bool,
    size: FloatSize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FloatSize {
    Infinite,
    /// `mantissa` times two to the power of `exponent`. The highest bit of the mantissa is set but for zero and numbers near it.
    Finite {
        mantissa: u64,
        exponent: i64,
    },
}

impl LongDouble {
    pub(super) const ZERO: Self = Self { negative: false, size: FloatSize::Finite { mantissa: 0, exponent: 0 } };

    /// As Redis's `string2ld` reads it: all of the text, in range, and not NaN.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= TEXT_BYTES_MAX {
            return None;
        }
        let (negative, digits) = unsigned(text);
        if is_infinity(digits) {
            return Some(Self { negative, size: FloatSize::Infinite });
        }
        let value = match without_hex_mark(digits) {
            Some(hex) => {
                let (mantissa, exponent) = read_hex(hex)?;
                Self::rounded(negative, mantissa, false, exponent)
            }
            None => Self::from_decimal(negative, digits)?,
        };
        let is_zero = matches!(value.size, FloatSize::Finite { mantissa: 0, .. });
        (value.is_finite() && !(is_zero && has_digits_above_zero(text))).then_some(value)
    }

    pub(super) fn is_finite(self) -> bool {
        matches!(self.size, FloatSize::Finite { .. })
    }

    /// The sum, if it is a finite number.
    pub(super) fn add(self, other: Self) -> Option<Self> {
        let (
            FloatSize::Finite { mantissa: a, exponent: a_exponent },
            FloatSize::Finite { mantissa: b, exponent: b_exponent },
        ) = (self.size, other.size)
        else {
            return None;
        };
        if a == 0 || b == 0 {
            return Some(if a == 0 { other } else { self });
        }
        if a_exponent < b_exponent {
            return other.add(self);
        }
        // What the smaller one has below the last bit of the larger one fits in 63 more bits; beyond these it only sways the rounding.
        let large = u128::from(a) << 63;
        let (shift, small) = (a_exponent - b_exponent, u128::from(b) << 63);
        let (small, lost) = match u32::try_from(shift) {
            Ok(shift @ 0..=127) => (small >> shift, small & ((1 << shift) - 1) != 0),
            _ => (0, true),
        };
        let exponent = a_exponent - 63;
        let sum = if self.negative == other.negative {
            Self::rounded(self.negative, large + small, lost, exponent)
        } else {
            match large.cmp(&small) {
                Ordering::Equal if !lost => Self::ZERO,
                Ordering::Less => Self::rounded(other.negative, small - large, lost, exponent),
                _ => Self::rounded(self.negative, large - small - u128::from(lost), lost, exponent),
            }
        };
        sum.is_finite().then_some(sum)
    }

    /// A thousand times this, rounded up to a whole number. As in C on x86, what does not fit is the smallest one.
    pub(super) fn thousandfold_rounded_up(self) -> i64 {
        let FloatSize::Finite { mantissa, exponent } = self.size else { return i64::MIN };
        let product = Self::rounded(self.negative, u128::from(mantissa) * 1_000, false, exponent);
        let FloatSize::Finite { mantissa, exponent } = product.size else { return i64::MIN };
        if mantissa == 0 {
            return 0;
        }
        let Some(shift) = exponent.checked_neg().and_then(|shift| u32::try_from(shift).ok()) else { return i64::MIN };
        let whole = mantissa.checked_shr(shift).unwrap_or(0);
        let has_rest = whole.checked_shl(shift).unwrap_or(0) != mantissa;
        // What is cut off brings a negative number nearer to zero already.
        let size = whole.checked_add(u64::from(has_rest && !self.negative)).and_then(|size| i64::try_from(size).ok());
        size.map_or(i64::MIN, |size| if self.negative { -size } else { size })
    }

    /// The nearest one to `value` times two to the power of `exponent`; `lost` says that the exact number is a little larger.
    fn rounded(negative: bool, value: u128, lost: bool, exponent: i64) -> Self {
        if value == 0 {
            return Self { negative, ..Self::ZERO };
        }
        let bits = 128 - i64::from(value.leading_zeros());
        let shift = (bits - 64).max(EXPONENT_MIN - exponent);
        let mut exponent = exponent + shift;
        let mut mantissa = match u32::try_from(shift) {
            Ok(shift) => shifted_to_nearest(value, shift, lost),
            Err(_) => value << shift.unsigned_abs(),
        };
        if mantissa >> 64 != 0 {
            mantissa >>= 1;
            exponent += 1;
        }
        let mantissa = u64::try_from(mantissa).unwrap_or(u64::MAX);
        let is_too_large = exponent > EXPONENT_MAX;
        Self {
            negative,
            size: if is_too_large { FloatSize::Infinite } else { FloatSize::Finite { mantissa, exponent } },
        }
    }

    fn from_decimal(negative: bool, text: &[u8]) -> Option<Self> {
        let (digits, mut exponent) = split_exponent(text, b'e')?;
        let (mut number, mut has_point, mut count) = (Big::default(), false, 0_i64);
        for byte in digits {
            match byte {
                b'.' if !has_point => has_point = true,
                b'0'..=b'9' => {
                    number.multiply_add(10, u32::from(byte - b'0'));
                    count += 1;
                    exponent -= i64::from(has_point);
                }
                _ => return None,
            }
        }
        if count == 0 {
            return None;
        }
        if number.bits() == 0 || exponent + count < -DECIMAL_MAX {
            return Some(Self { negative, ..Self::ZERO });
        }
        if exponent > DECIMAL_MAX {
            return Some(Self { negative, size: FloatSize::Infinite });
        }
        let mut power = Big::from(1);
        let tens = if exponent < 0 { &mut power } else { &mut number };
        (0..exponent.unsigned_abs()).for_each(|_| tens.multiply_add(10, 0));
        let (quotient, lost, exponent) = number.divide(power);
        Some(Self::rounded(negative, quotient, lost, exponent))
    }

    /// As Redis writes it for people: 17 digits after the point (`%.17Lf`) without the zeros at their end, and never `-0`.
    pub(super) fn to_text(self) -> Vec<u8> {
        let sign = if self.negative { "-" } else { "" };
        let FloatSize::Finite { mantissa, exponent } = self.size else { return format!("{sign}inf").into_bytes() };
        let text = if let Ok(shift) = u32::try_from(exponent) {
            let mut whole = Big::from(mantissa);
            whole.shift_left(shift);
            whole.into_decimal()
        } else {
            const UNIT: u128 = 100_000_000_000_000_000;
            let shift = u32::try_from(-exponent).unwrap_or(u32::MAX);
            let parts = shifted_to_nearest(u128::from(mantissa) * UNIT, shift, false);
            let text = format!("{}.{:017}", parts / UNIT, parts % UNIT);
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        if text == "0" { text.into_bytes() } else { format!("{sign}{text}").into_bytes() }
    }
}

/// `value` divided by two to the power of `shift`, to the nearest, and to the even one in the middle.
fn shifted_to_nearest(value: u128, shift: u32, lost: bool) -> u128 {
    if shift == 0 {
        return value;
    }
    if shift > 128 {
        return 0;
    }
    let quotient = value.checked_shr(shift).unwrap_or(0);
    let half = 1_u128 << (shift - 1);
    let rest = if shift == 128 { value } else { value & ((1 << shift) - 1) };
    let is_up = rest > half || (rest == half && (lost || quotient % 2 == 1));
    quotient + u128::from(is_up)
}

/// A whole number of any size: its digits to the base of 2^32, the lowest first, and no zero at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Big(Vec<u32>);

impl From<u64> for Big {
    fn from(value: u64) -> Self {
        let mut big = Self(vec![low(value), low(value >> 32)]);
        big.trim();
        big
    }
}

impl Big {
    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn bits(&self) -> i64 {
        let top = self.0.last().map_or(0, |top| 32 - i64::from(top.leading_zeros()));
        i64::try_from(self.0.len().saturating_sub(1)).unwrap_or(0) * 32 + top
    }

    fn multiply_add(&mut self, factor: u32, more: u32) {
        let mut carry = u64::from(more);
        for digit in &mut self.0 {
            carry += u64::from(*digit) * u64::from(factor);
            *digit = low(carry);
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(low(carry));
        }
    }

    fn shift_left(&mut self, by: u32) {
        self.multiply_add(1 << (by % 32), 0);
        if !self.0.is_empty() {
            self.0.splice(0..0, std::iter::repeat_n(0, usize::try_from(by / 32).unwrap_or(0)));
        }
    }

    /// The first 67 or so bits of `self / other`, whether more follow, and the power of two that they are multiplied with.
    fn divide(mut self, mut other: Self) -> (u128, bool, i64) {
        const BITS: i64 = 66;
        // Both are shifted so that the quotient has as many bits as wanted.
        let exponent = self.bits() - other.bits() - BITS;
        let by = u32::try_from(exponent.unsigned_abs()).unwrap_or(u32::MAX);
        (if exponent < 0 { &mut self } else { &mut other }).shift_left(by);
        other.shift_left(u32::try_from(BITS).unwrap_or(0));
        let mut quotient = 0;
        for _ in 0..=BITS {
            quotient <<= 1;
            if self.subtract(&other) {
                quotient |= 1;
            }
            other.halve();
        }
        (quotient, !self.0.is_empty(), exponent)
    }

    /// Takes off another, if it is not larger. Answers whether it was done.
    fn subtract(&mut self, other: &Self) -> bool {
        let is_larger = self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()));
        if is_larger == Ordering::Less {
            return false;
        }
        let mut borrow = 0;
        for (at, digit) in self.0.iter_mut().enumerate() {
            let taken = u64::from(other.0.get(at).copied().unwrap_or(0)) + borrow;
            borrow = u64::from(u64::from(*digit) < taken);
            *digit = low((borrow << 32) + u64::from(*digit) - taken);
        }
        self.trim();
        true
    }

    fn halve(&mut self) {
        let mut carry = 0;
        for digit in self.0.iter_mut().rev() {
            let next = *digit & 1;
            *digit = *digit >> 1 | carry << 31;
            carry = next;
        }
        self.trim();
    }

    fn into_decimal(mut self) -> String {
        const BASE: u64 = 1_000_000_000;
        let mut parts = Vec::new();
        while !self.0.is_empty() {
            let mut rest = 0;
            for digit in self.0.iter_mut().rev() {
                rest = rest << 32 | u64::from(*digit);
                *digit = low(rest / BASE);
                rest %= BASE;
            }
            parts.push(rest);
            self.trim();
        }
        let first = parts.pop().unwrap_or(0).to_string();
        parts.iter().rev().fold(first, |text, part| format!("{text}{part:09}"))
    }
}

/// The lower 32 bits.
fn low(value: u64) -> u32 {
    u32::try_from(value & 0xFFFF_FFFF).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_have_the_digits_of_a_long_double() {
        // From redis-server 7.0.15: `SET k a`, `INCRBYFLOAT k b`.
        for (a, b, sum) in [
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("0.1", "0.2", "0.3"),
            ("-1", "1", "0"),
            ("1e-20", "0", "0"),
            ("3", "-3.0", "0"),
            ("0x10", ".5", "16.5"),
            ("18446744073709551615", "1", "18446744073709551616"),
        ] {
            let [a, b] = [a, b].map(|text| LongDouble::parse(text.as_bytes()).unwrap());
            assert_eq!(String::from_utf8(a.add(b).unwrap().to_text()).unwrap(), sum);
        }
    }

    #[test]
    fn a_text_that_is_no_number_in_range_is_none() {
        for text in ["", "-", ".", "1e", "e5", "1x", " 1", "1 ", "nan", "1e400", "1e-400", "0x", "0x1p", "1.2.3"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        for text in ["", "-", ".", "1e", "1e5000", "1e-5000", "1e99999999999", "0xg", "nan", " 1"] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse(b"0e-99999"), Some(0.0));
        assert_eq!(parse(b"-0x1.8p1"), Some(-3.0));
        assert_eq!(parse(b"+Infinity"), Some(f64::INFINITY));
        assert_eq!(parse_bound(b" 1e400"), Some(f64::INFINITY));
        assert_eq!(parse_bound(b"(1"), None);
    }
}
