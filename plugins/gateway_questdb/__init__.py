"""Records in QuestDB."""
