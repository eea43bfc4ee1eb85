//! An id of any text: taken as it is or refused, by every way in, and the name of a file leads back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tenantry::{ErrorKind, TenantContext, TenantId, TenantJob};

mod tenant {
    pub(crate) use tenantry::TenantId;
}

#[path = "../../src/sqlite/file_name.rs"]
mod file_name;

fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    text.len() <= 63
        && text.bytes().next().is_some_and(plain)
        && text
            .bytes()
            .all(|byte| plain(byte) || b"-_.".contains(&byte))
}

fuzz_target!(|data: &[u8]| {
    // A job is read from bytes: whatever they are, it is somebody's as it was written, or nobody's.
    if let Ok(job) = serde_json::from_slice::<TenantJob<Value>>(data) {
        assert!(is_id(job.context().tenant().as_str()));
        let written = serde_json::to_vec(&job).expect("JSON");
        let read: TenantJob<Value> = serde_json::from_slice(&written).expect("its own");
        assert_eq!(read.context(), job.context());
    }
    let Ok(text) = std::str::from_utf8(data) else {
        assert!(serde_json::from_slice::<TenantId>(&[b"\"", data, b"\""].concat()).is_err());
        return;
    };
    let parsed = text.parse::<TenantId>();
    let read: Result<TenantId, _> = serde_json::from_value(json!(text));
    let context: Result<TenantContext, _> = serde_json::from_value(json!({ "tenant": text }));
    assert_eq!(parsed.is_ok(), is_id(text));
    assert_eq!(read.ok().as_ref(), parsed.as_ref().ok());
    let tenant = context.ok().map(|context| context.tenant().clone());
    assert_eq!(tenant.as_ref(), parsed.as_ref().ok());
    match parsed {
        Ok(id) => {
            // Upper case of a UUID alone is another spelling of the same id.
            let same = id.as_str() == text;
            assert!(same || text.len() == 36 && id.as_str() == text.to_ascii_lowercase());
            assert_eq!(id.to_string().parse::<TenantId>().expect("its own"), id);
            let name = file_name::of(&id);
            assert!(!name.contains(['/', '\\', '\0']) && name.len() <= 255);
            assert_eq!(file_name::tenant_of(&name), Some(id));
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidTenantId);
            assert!(text.len() < 8 || !format!("{error} {error:?}").contains(text));
        }
    }
    if let Some(tenant) = file_name::tenant_of(text) {
        assert_eq!(file_name::of(&tenant), text, "one name for each tenant");
    }
});
