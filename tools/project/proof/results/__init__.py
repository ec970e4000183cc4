"""What runs came to: answers, log-odds, probes and costs, and the measures made of them."""
