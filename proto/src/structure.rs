//! JSON within a message.

/// An object of JSON as a message; `None`: it is no object.
pub fn structure(json: serde_json::Value) -> Option<pbjson_types::Struct> {
    json.is_object().then(|| serde_json::from_value(json).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_the_same_as_a_message_and_nothing_else_is_one() {
        let object = json!({ "a": [1, null, "x", true], "b": { "c": 0.5 } });
        let message = structure(object.clone()).unwrap();
        let back = serde_json::to_value(&message).unwrap();
        // A message has one kind of number.
        assert_eq!(back["b"], object["b"]);
        assert_eq!(back["a"][0].as_f64(), Some(1.0));
        assert_eq!(structure(json!([1])), None);
    }
}
