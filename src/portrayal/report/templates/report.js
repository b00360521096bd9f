(() => {
  const box = document.getElementById("lightbox");
  if (!box || !box.showModal) return;
  const pictures = [...document.querySelectorAll("main figure img")];
  let place = 0;
  const show = (next) => {
    place = (next + pictures.length) % pictures.length;
    const shown = box.querySelector("img");
    shown.src = pictures[place].src;
    shown.alt = pictures[place].alt;
    box.querySelector("p").textContent = pictures[place].alt;
    if (!box.open) box.showModal();
  };
  pictures.forEach((picture, index) => {
    picture.tabIndex = 0;
    picture.classList.add("opens");
    picture.addEventListener("click", () => show(index));
    picture.addEventListener("keydown", (event) => { if (event.key === "Enter") show(index); });
  });
  box.addEventListener("click", () => box.close());
  box.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") show(place + 1);
    if (event.key === "ArrowLeft") show(place - 1);
  });
})();
