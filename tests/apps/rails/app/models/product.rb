class Product < ApplicationRecord
  has_one_attached :photo

  validates :name, presence: true, uniqueness: true
  validates :price, numericality: { greater_than: 0 }

  after_create_commit { WeighPhotoJob.perform_later(self) if photo.attached? }
end
