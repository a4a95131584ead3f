"""Words: templates, profiles and histories as text, objectives to words and back."""
