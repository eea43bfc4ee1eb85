//! The text of a cursor: whatever it is, it is refused or the one that was made for this list, and
//! nothing panics. What is made is read again as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tenantry::repository::{Cursor, PageRequest, Pager};
use tenantry::{ErrorKind, TenantContext, TenantId};

type Place = (String, Option<i64>, Vec<u8>);

fuzz_target!(|data: (&str, Place, &str)| {
    let (text, place, list) = data;
    let context = TenantContext::new(TenantId::from(7_u64));
    let other = TenantContext::new(TenantId::from(8_u64));
    let request = PageRequest::default().limit(1);
    let position = |context: &TenantContext, cursor: Cursor| {
        let request = request.clone().after(cursor);
        let pager = Pager::<Place>::new(context, list, &request);
        pager.map(|pager| pager.after().cloned())
    };
    let is_refused = |error: &tenantry::Error| error.kind() == ErrorKind::InvalidCursor;

    match Cursor::parse(text) {
        Ok(cursor) => {
            assert_eq!(cursor.to_string(), text, "one text for each cursor");
            // Nobody hits a digest of 128 bits by accident.
            assert!(position(&context, cursor).is_err_and(|error| is_refused(&error)));
        }
        Err(error) => assert!(is_refused(&error)),
    }

    let pager = Pager::<Place>::new(&context, list, &request).expect("no cursor");
    let Ok(page) = pager.page(vec![(), ()], |()| place.clone()) else {
        return; // too long
    };
    let made = page.next.expect("there is more").to_string();
    let read = |text: &str| Cursor::parse(text).expect("what is made can be read");
    assert_eq!(position(&context, read(&made)).expect("its own"), Some(place));
    assert!(position(&other, read(&made)).is_err_and(|error| is_refused(&error)));
});
