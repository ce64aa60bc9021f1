"""Images: perceptual hashes, and the step that compares them."""
