"""Generated datasets: maths questions, French pairs, and questions on pictures of places."""
