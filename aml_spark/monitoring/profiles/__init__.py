"""What is known of tables: read by Spark, put together, kept."""
