// Runs before the first paint: what only scripts can do is shown, what stands in for them is not.
document.documentElement.classList.add("js");
