use crate::{Files, Result, model::Message};
pub fn emit(_: &[Message]) -> Result<Files> {
    Ok(Files::new())
}
