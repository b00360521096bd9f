"""The page: eight screens in two languages, made of templates and shown by Gradio."""
