//! `tenantry key`.

use sqlx::Connection as _;
use tenantry::sql::Installation;
use tenantry::{Secret, SigningKey};

use crate::arguments::{Arguments, KeyCommand, SecretOptions};
use crate::failure::Failure;
use crate::{DONE, database};

pub(crate) async fn run(arguments: &Arguments, command: &KeyCommand) -> Result<u8, Failure> {
    let mut owner = database::connect(&arguments.database).await?;
    let done = match command {
        KeyCommand::Add(options) => {
            let key = SigningKey::new(&*options.id, secret(&options.secret))?;
            Installation::add_signing_key(&mut owner, &key).await?;
            format!(
                "the database takes what is signed with the key {}",
                key.id()
            )
        }
        KeyCommand::Retire { id } => {
            if !Installation::retire_signing_key(&mut owner, id).await? {
                return Err(Failure::new(format!("the database knows no key {id:?}")));
            }
            format!("the database takes no more of what is signed with the key {id}")
        }
        KeyCommand::RotateServer => {
            Installation::rotate_server_key(&mut owner).await?;
            "the server seals with another key".to_owned()
        }
    };
    anstream::println!("{done}");
    // What was asked for is done, whether the good-bye arrives or not.
    let _ = owner.close().await;
    Ok(DONE)
}

/// clap sees to it that it is one of the two.
fn secret(options: &SecretOptions) -> Secret {
    match (&options.secret_file, &options.secret_variable) {
        (Some(file), _) => Secret::file(file),
        (None, variable) => Secret::environment(variable.as_deref().unwrap_or_default()),
    }
}
