"""What a person looks at: values with named denominators, and text made from them."""
