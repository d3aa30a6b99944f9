"""Do routes become as fast as the advisor says when their calls run at once?"""
