"""Images: perceptual hashes and the step that compares them; the step for equal pixels."""
