//! The attribute `#[seedbed::test]`.

use proc_macro::TokenStream;
use quote::quote;
use syn::{Error, ItemFn, LitInt, parse_macro_input};

/// Makes a test of a function that returns a bed: it plays so many seeds, and fails with the smallest scenario that it found
/// for the first violation. `#[seedbed::test(seeds = 200)]`; without a number, 100 seeds.
///
/// Environment variables override it: see the module `testing` of `seedbed`.
#[proc_macro_attribute]
pub fn test(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let mut seeds: u64 = 100;
    let parser = syn::meta::parser(|meta| {
        if !meta.path.is_ident("seeds") {
            return Err(meta.error("unknown argument: write #[seedbed::test(seeds = 200)]"));
        }
        seeds = meta.value()?.parse::<LitInt>()?.base10_parse()?;
        if seeds == 0 {
            return Err(meta.error("a test of no seeds tests nothing: give at least one"));
        }
        Ok(())
    });
    parse_macro_input!(attribute with parser);
    let function = parse_macro_input!(item as ItemFn);
    if !function.sig.inputs.is_empty() {
        let message = "a bed's test takes no arguments: it returns the bed, `fn lock() -> Bed<Locks> { .. }`";
        return Error::new_spanned(&function.sig.inputs, message).to_compile_error().into();
    }
    if function.sig.asyncness.is_some() {
        let message = "a bed's test is no async function: it returns the bed, which is run for each seed";
        return Error::new_spanned(function.sig.asyncness, message).to_compile_error().into();
    }
    let ItemFn { attrs, sig, block, .. } = &function;
    let (name, output) = (&sig.ident, &sig.output);
    quote! {
        #(#attrs)*
        #[test]
        fn #name() {
            // A function would hide others of its name from the block.
            let bed = (|| #output #block)();
            ::seedbed::testing::check(concat!(module_path!(), "::", stringify!(#name)), #seeds, &bed);
        }
    }
    .into()
}
