"""A small stock book: what lies in which warehouse, and what it is worth."""

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Item:
    name: str
    price: float
    count: int = 0

    def value(self) -> float:
        return self.price * self.count

    def with_count(self, count: int) -> "Item":
        return Item(self.name, self.price, count)


@dataclass
class Warehouse:
    city: ┃
    items: dict[str, Item] = field(default_factory=dict)

    def add(self, item: Item) -> None:
        if item.name in self.items:
            raise ValueError(f"{item.name} is in {self.city} already")
        self.items[item.name] = item

    def remove(self, name: str) -> Item:
        if name not in ┃
            raise KeyError(f"{name} is not in {self.city}")
        return self.items.pop(name)

    def get(self, name: str) -> Item | None:
        return self.items.get(┃

    def total(self) -> float:
        result = 0.0
        for item in self.items.┃
            result += item.value()
        return result

    def names(self) -> list[str]:
        return [item.name for item in self.items.values()]

    def save(self, path: Path) -> None:
        with path.open("w") as file:
            json.dump(self.items, file)


def main() -> None:
    warehouse = Warehouse("Bern")
    warehouse.add(Item("chair", 80.0, 4))
    print(warehouse.total())


if __name__ == ┃
