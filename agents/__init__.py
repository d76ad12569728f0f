"""The research crew, by language model or offline: reads tables, proposes search spaces."""
